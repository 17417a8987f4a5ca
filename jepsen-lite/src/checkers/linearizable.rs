//! Is there an order of all operations of a register, each taking effect between its lines, in which every answer is right?
//!
//! The search of Wing and Gong, with Lowe's memory of what was tried: by key, because an object made of linearizable objects is
//! linearizable. It knows nothing of `seq`. Operations of unknown outcome stay open to the end of the history. When each value is
//! written once, some things follow without a search, and make it short: a write of unknown outcome that somebody saw happened before
//! that; one that nobody saw can be left out of any order in which it stands, unless it stands right before a comparison that it makes
//! fail; and of several that do the same (such writes, removals, comparisons with one value) any that have begun will do, so they are
//! taken in turn.
//!
//! The search is bounded by steps and memory. Beyond it says *unknown*, with the key; it never guesses.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::registers::{ABSENT, Act, NOBODYS, RegOp, Register, UNSEEN, Val, registers};
use crate::history::History;
use crate::verdict::{Finding, Verdict};

pub(super) const NAME: &str = "linearizable";

/// Configurations remembered for one key at most; about 100 bytes each.
const MEMORY: usize = 2_000_000;
/// Steps of one search at most, unless the caller says otherwise: some seconds.
const STEPS: u64 = 50_000_000;
/// Between two looks at the clock.
const LOOK: u64 = 16_384;

/// How much a search may cost before it says that it does not know.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Operations tried, in the whole history.
    pub steps: u64,
    /// A moment at which it gives up. None: the steps alone bound it, and the verdict is the same on every machine.
    pub until: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { steps: STEPS, until: None }
    }
}

impl Budget {
    fn spend(&mut self) -> bool {
        self.steps = self.steps.saturating_sub(1);
        let late = || self.steps.is_multiple_of(LOOK) && self.until.is_some_and(|until| Instant::now() >= until);
        self.steps > 0 && !late()
    }
}

/// What a search comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Linearizable,
    /// The operations (indexes into those searched) that no order can hold: the one at which the longest order ended, first.
    Not(Vec<usize>),
    GaveUp,
}

pub(super) fn check(history: &History, budget: Budget) -> Finding {
    let mut registers = registers(history);
    // The easy ones first: a hard one must not use up the budget of all.
    registers.sort_by_key(|register| register.ops.len());
    let operations: usize = registers.iter().map(|register| register.ops.len()).sum();
    if operations == 0 {
        return Finding::nothing(NAME, "no operation on a register");
    }
    let mut left = budget;
    let mut gave_up = Vec::new();
    for register in &registers {
        let ops = shortened(register);
        match search(&ops, &mut left) {
            Answer::Linearizable => {}
            Answer::GaveUp => gave_up.push(format!("{} ({} operations)", register.key, register.ops.len())),
            Answer::Not(stuck) => {
                let said: Vec<String> = stuck.iter().map(|&at| register.say(&ops[at])).collect();
                let detail =
                    format!("no order explains key {}: the longest ends where {}", register.key, said.join("; "));
                return Finding::violation(NAME, detail, stuck.iter().flat_map(|&at| ops[at].op.lines()));
            }
        }
    }
    let tried = budget.steps - left.steps;
    if gave_up.is_empty() {
        let unknown = registers.iter().flat_map(|register| &register.ops).filter(|op| !op.known).count();
        let keys = registers.len();
        Finding::pass(
            NAME,
            format!("{operations} operations on {keys} keys, {unknown} of unknown outcome, {tried} steps"),
        )
    } else {
        let detail = format!("not decided within {tried} steps: {}", gave_up.join(", "));
        Finding { verdict: Verdict::Unknown, ..Finding::pass(NAME, detail) }
    }
}

/// The operations that must be searched, by what follows from unique values.
fn shortened<'a>(register: &Register<'a>) -> Vec<RegOp<'a>> {
    let mut ops = register.ops.clone();
    if !register.unique {
        return ops;
    }
    // Until nothing changes: an unknown compare-and-set that was seen saw something itself.
    while let Some((at, end)) = seen_unknown(&ops) {
        (ops[at].known, ops[at].end) = (true, end);
    }
    let compared = ops.iter().any(|op| matches!(op.act, Act::Not(_)));
    if !compared {
        ops.retain(|op| op.known || op.act == Act::Write(ABSENT));
    }
    let met = |op: &RegOp<'_>| match op.act {
        Act::Read(value) | Act::Not(value) | Act::Cas { old: value, .. } => Some(value),
        Act::Write(_) => None,
    };
    let met: HashSet<Val> = ops.iter().filter_map(met).collect();
    for op in ops.iter_mut().filter(|op| !op.known) {
        match &mut op.act {
            Act::Write(value) | Act::Cas { new: value, .. } if *value != ABSENT && !met.contains(value) => {
                *value = UNSEEN
            }
            _ => {}
        }
    }
    ops
}

/// Operations of unknown outcome that do the same, of which any that has begun will do, in the order in which they began: for each
/// operation the one before it. Writes of values that nobody saw do the same, and so do comparisons of one value that leave such a one.
fn turns(ops: &[RegOp<'_>]) -> Vec<Option<usize>> {
    let mut last: HashMap<Act, usize> = HashMap::new();
    let turn = |(at, op): (usize, &RegOp<'_>)| if op.known { None } else { last.insert(op.act, at) };
    ops.iter().enumerate().map(turn).collect()
}

/// An operation of unknown outcome whose value somebody saw, and when that was known.
fn seen_unknown(ops: &[RegOp<'_>]) -> Option<(usize, usize)> {
    let mut seen: HashMap<Val, usize> = HashMap::new();
    for op in ops.iter().filter(|op| op.known) {
        if let Some(value) = op.act.saw().filter(|value| *value != ABSENT && *value != NOBODYS) {
            let end = seen.entry(value).or_insert(op.end);
            *end = (*end).min(op.end);
        }
    }
    let unknown = ops.iter().enumerate().filter(|(_, op)| !op.known);
    unknown.filter_map(|(at, op)| Some((at, *seen.get(&op.act.leaves()?)?))).next()
}

/// One end of an operation, in a list from which operations are taken out and put back.
#[derive(Clone, Copy)]
struct Entry {
    op: usize,
    /// The entry of its completion; none on a completion, and on what never completes.
    completion: Option<usize>,
    is_completion: bool,
    previous: usize,
    next: usize,
}

/// The entries of a history in the order of its lines, as a linked list; entry 0 is its head.
struct List(Vec<Entry>);

const NONE: usize = usize::MAX;

impl List {
    fn new(ops: &[RegOp<'_>]) -> List {
        let mut ends: Vec<(usize, usize, bool)> =
            ops.iter().enumerate().map(|(at, op)| (op.begin, at, false)).collect();
        ends.extend(ops.iter().enumerate().filter(|(_, op)| op.known).map(|(at, op)| (op.end, at, true)));
        // What was seen of an unknown operation bounds it by the line of who saw it: it comes before that one's own completion.
        ends.sort_by_key(|&(line, at, completion)| (line, ops[at].act.saw().is_some(), completion));
        let head = Entry { op: NONE, completion: None, is_completion: false, previous: NONE, next: NONE };
        let mut list = vec![head];
        let mut begun = vec![NONE; ops.len()];
        for (_, op, is_completion) in ends {
            let at = list.len();
            list[at - 1].next = at;
            list.push(Entry { op, completion: None, is_completion, previous: at - 1, next: NONE });
            if is_completion {
                list[begun[op]].completion = Some(at);
            } else {
                begun[op] = at;
            }
        }
        List(list)
    }

    /// Whether a comparison that this state would make succeed, and that failed, can come next but one.
    fn is_compared_next(&self, ops: &[RegOp<'_>], state: Val) -> bool {
        let mut at = self.0[0].next;
        while at != NONE && !self.0[at].is_completion {
            if ops[self.0[at].op].act == Act::Not(state) {
                return true;
            }
            at = self.0[at].next;
        }
        false
    }

    fn unlink(&mut self, at: usize) {
        let Entry { previous, next, .. } = self.0[at];
        self.0[previous].next = next;
        if next != NONE {
            self.0[next].previous = previous;
        }
    }

    fn link(&mut self, at: usize) {
        let Entry { previous, next, .. } = self.0[at];
        self.0[previous].next = at;
        if next != NONE {
            self.0[next].previous = at;
        }
    }

    /// Takes an operation out: it has taken effect.
    fn lift(&mut self, at: usize) {
        self.unlink(at);
        if let Some(completion) = self.0[at].completion {
            self.unlink(completion);
        }
    }

    fn put_back(&mut self, at: usize) {
        if let Some(completion) = self.0[at].completion {
            self.link(completion);
        }
        self.link(at);
    }
}

/// Which operations have taken effect. They do so roughly in the order in which they began, so what is hashed and kept is small: how
/// many words are full, and the others.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done {
    full: u32,
    rest: Box<[u64]>,
}

struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn clear(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    fn done(&self) -> Done {
        let full = self.0.iter().take_while(|word| **word == u64::MAX).count();
        let used = self.0.iter().rposition(|word| *word != 0).map_or(full, |last| (last + 1).max(full));
        Done { full: u32::try_from(full).unwrap_or(u32::MAX), rest: self.0[full..used].into() }
    }
}

/// Looks for an order. `ops` in the order in which they began.
pub(super) fn search(ops: &[RegOp<'_>], budget: &mut Budget) -> Answer {
    let mut list = List::new(ops);
    let mut to_complete = ops.iter().filter(|op| op.known).count();
    let mut done = Bits(vec![0; ops.len().div_ceil(64)]);
    let mut tried: HashSet<(Done, Val)> = HashSet::new();
    let mut order: Vec<(usize, Val)> = Vec::new();
    let mut state = ABSENT;
    let mut longest: (usize, Vec<usize>) = (0, Vec::new());
    let turns = turns(ops);
    let mut at = list.0[0].next;
    while to_complete > 0 {
        if !budget.spend() || tried.len() >= MEMORY {
            return Answer::GaveUp;
        }
        let entry = list.0[at];
        if !entry.is_completion {
            let its_turn = turns[entry.op].is_none_or(|before| done.has(before));
            let useful = ops[entry.op].act.leaves() != Some(UNSEEN) || list.is_compared_next(ops, state);
            if let Some(next) = ops[entry.op].act.apply(state).filter(|_| its_turn && useful) {
                done.set(entry.op);
                if tried.insert((done.done(), next)) {
                    order.push((at, state));
                    state = next;
                    to_complete -= usize::from(ops[entry.op].known);
                    list.lift(at);
                    at = list.0[0].next;
                    continue;
                }
                done.clear(entry.op);
            }
            at = entry.next;
            continue;
        }
        // This operation has completed and cannot come first: what was done last was wrong.
        if longest.1.is_empty() || order.len() > longest.0 {
            let last = order.iter().rev().take(2).map(|&(entry, _)| list.0[entry].op);
            longest = (order.len(), std::iter::once(entry.op).chain(last).collect());
        }
        let Some((last, before)) = order.pop() else { return Answer::Not(longest.1) };
        let op = list.0[last].op;
        state = before;
        done.clear(op);
        to_complete += usize::from(ops[op].known);
        list.put_back(last);
        at = list.0[last].next;
    }
    Answer::Linearizable
}

#[cfg(test)]
mod tests {
    use super::super::registers::registers;
    use super::super::testing::{by_hand, verdicts};
    use super::*;

    #[test]
    fn histories_by_hand() {
        verdicts(NAME, |history| check(history, Budget::default()));
    }

    #[test]
    fn what_follows_from_unique_values_changes_no_answer() {
        for (path, ..) in by_hand(NAME) {
            let history = crate::history::read(&path).unwrap();
            for register in registers(&history) {
                let whole = search(&register.ops, &mut Budget::default());
                let short = search(&shortened(&register), &mut Budget::default());
                let fits = |answer: &Answer| *answer == Answer::Linearizable;
                assert_eq!(fits(&whole), fits(&short), "{}: {whole:?}, {short:?}", path.display());
            }
        }
    }

    #[test]
    fn a_search_that_is_cut_short_does_not_guess() {
        let (_, _, history) = by_hand(NAME).remove(0);
        let finding = check(&history, Budget { steps: 1, until: None });
        assert_eq!(finding.verdict, Verdict::Unknown, "{finding}");
        assert!(finding.detail.contains("not decided"));
    }
}
