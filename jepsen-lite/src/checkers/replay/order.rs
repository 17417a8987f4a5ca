//! One register in the order of `seq`, with the operations of unknown outcome put in where answers show them.
//!
//! Known operations stand in the order that was claimed. Before one of them that does not fit, operations of unknown outcome are
//! placed: those that leave what it saw, or, before a comparison that failed, one that explains it. Each was begun before anything
//! that follows had ended. Almost always one choice is possible; where there are several, they are tried in turn, up to a bound.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::grants::Grant;
use super::super::registers::{ABSENT, Act, NOBODYS, RegOp, Register, Val};
use super::{Grants, Problem};

/// Operations placed at most, in all ways that are tried.
const STEPS: usize = 5_000_000;
/// Unknown compare-and-sets on top of each other that are followed at most.
const CHAIN: usize = 64;

/// A place where several ways were possible.
struct Choice {
    /// Before this one of the known operations.
    at: usize,
    state: Val,
    /// How long the order was.
    length: usize,
    /// What could be placed, last first.
    ways: Vec<Vec<usize>>,
}

struct Replay<'r, 'a> {
    register: &'r Register<'a>,
    /// Known operations, as indexes, in the claimed order.
    known: Vec<usize>,
    /// Before each of them: the earliest end among it and all that follow.
    earliest_end: Vec<usize>,
    /// Unknown operations by what they leave, in the order in which they began; which are placed.
    unknown: HashMap<Val, Vec<usize>>,
    placed: HashSet<usize>,
    /// What some operation saw, or may have seen.
    seen: HashSet<Val>,
}

/// Whether the register's answers fit the claimed order; false: too many ways to tell.
///
/// # Errors
/// The first answer that does not fit in the way that went furthest.
pub(super) fn replay(register: &Register<'_>, grants: &Grants<'_>) -> Result<bool, Problem> {
    let mut replay = Replay::new(register);
    let Some(order) = replay.run()? else { return Ok(false) };
    replay.allowed(&order, grants)?;
    replay.real_time(&order)?;
    Ok(true)
}

impl<'r, 'a> Replay<'r, 'a> {
    fn new(register: &'r Register<'a>) -> Self {
        let ops = &register.ops;
        let mut known: Vec<usize> = (0..ops.len()).filter(|&at| ops[at].known && ops[at].seq.is_some()).collect();
        // A look at a state comes after the command that made it; looks at one state in the order in which they began.
        known.sort_by_key(|&at| (ops[at].seq, ops[at].act.leaves().is_none(), ops[at].begin));
        let mut earliest_end = vec![usize::MAX; known.len() + 1];
        for at in (0..known.len()).rev() {
            earliest_end[at] = earliest_end[at + 1].min(ops[known[at]].end);
        }
        let mut unknown: HashMap<Val, Vec<usize>> = HashMap::new();
        for (at, op) in ops.iter().enumerate().filter(|(_, op)| !op.known) {
            if let Some(value) = op.act.leaves() {
                unknown.entry(value).or_default().push(at);
            }
        }
        let seen = ops.iter().filter_map(|op| op.act.saw()).collect();
        Replay { register, known, earliest_end, unknown, placed: HashSet::new(), seen }
    }

    fn op(&self, at: usize) -> &'r RegOp<'a> {
        &self.register.ops[at]
    }

    /// The whole order; none when the bound was reached.
    fn run(&mut self) -> Result<Option<Vec<usize>>, Problem> {
        let (mut at, mut state) = (0, ABSENT);
        let mut order: Vec<usize> = Vec::new();
        let mut choices: Vec<Choice> = Vec::new();
        let mut furthest: Option<(usize, Problem)> = None;
        let mut steps = 0;
        while at < self.known.len() {
            steps += 1;
            if steps > STEPS {
                return Ok(None);
            }
            let op = self.op(self.known[at]);
            if let Some(next) = op.act.apply(state) {
                state = next;
                order.push(self.known[at]);
                at += 1;
                continue;
            }
            let mut ways = self.ways(at, state);
            ways.reverse();
            if ways.is_empty() && furthest.as_ref().is_none_or(|(before, _)| *before < at) {
                furthest = Some((at, self.misfit(at, state, &order)));
            }
            choices.push(Choice { at, state, length: order.len(), ways });
            // The next way of the latest choice that has one.
            let way = loop {
                let Some(choice) = choices.last_mut() else { break None };
                for undone in order.drain(choice.length..) {
                    self.placed.remove(&undone);
                }
                (at, state) = (choice.at, choice.state);
                if let Some(way) = choice.ways.pop() {
                    break Some(way);
                }
                choices.pop();
            };
            let Some(way) = way else {
                let (_, problem) = furthest.unwrap_or_else(|| (at, self.misfit(at, state, &order)));
                return Err(problem);
            };
            for &unknown in &way {
                self.placed.insert(unknown);
                state = self.op(unknown).act.leaves().unwrap_or(state);
            }
            order.extend(way);
        }
        Ok(Some(order))
    }

    /// What could be placed before a known operation that does not fit the state, most likely first.
    fn ways(&self, at: usize, state: Val) -> Vec<Vec<usize>> {
        match self.op(self.known[at]).act {
            Act::Read(value) | Act::Cas { old: value, .. } => {
                self.leading_to(value, at, state, 0).into_iter().collect()
            }
            Act::Not(_) => self.away_from(state, at),
            Act::Write(_) => Vec::new(),
        }
    }

    /// Not placed yet, and begun before anything that follows had ended.
    fn fits(&self, unknown: usize, at: usize) -> bool {
        self.op(unknown).begin < self.earliest_end[at] && !self.placed.contains(&unknown)
    }

    /// The last to begin of those that leave this value: the others fit wherever it does.
    fn last_leaving(&self, value: Val, at: usize) -> Option<usize> {
        self.unknown.get(&value)?.iter().rev().copied().find(|&unknown| self.fits(unknown, at))
    }

    /// What must be placed so that the state becomes a value. Values are written once, removals aside: there is one way at most.
    fn leading_to(&self, value: Val, at: usize, state: Val, depth: usize) -> Option<Vec<usize>> {
        let last = self.last_leaving(value, at)?;
        match self.op(last).act {
            Act::Cas { old, .. } if old != state => {
                let mut way = (depth < CHAIN).then(|| self.leading_to(old, at, state, depth + 1))??;
                way.push(last);
                Some(way)
            }
            _ => Some(vec![last]),
        }
    }

    /// What can be placed so that the state is another one, each alone: first what nobody ever sees.
    fn away_from(&self, state: Val, at: usize) -> Vec<Vec<usize>> {
        let mut ways: Vec<(bool, bool, usize)> = Vec::new();
        for (&value, unknown) in self.unknown.iter().filter(|(value, _)| **value != state) {
            let possible = unknown.iter().rev().copied().filter(|&unknown| self.fits(unknown, at));
            let mut possible = possible.filter(|&unknown| self.op(unknown).act.apply(state).is_some());
            if let Some(last) = possible.next() {
                // What only fits here goes first, then what is never seen, then what is.
                let only_here = matches!(self.op(last).act, Act::Cas { .. });
                ways.push((
                    value == ABSENT || self.seen.contains(&value),
                    !only_here,
                    usize::MAX - self.op(last).begin,
                ));
            }
        }
        ways.sort_unstable();
        let by_begin = |begin: usize| self.register.ops.iter().position(|op| op.begin == begin);
        ways.into_iter().filter_map(|(.., begin)| by_begin(usize::MAX - begin)).map(|unknown| vec![unknown]).collect()
    }

    /// Why a known operation does not fit.
    fn misfit(&self, at: usize, state: Val, order: &[usize]) -> Problem {
        let op = self.op(self.known[at]);
        let last = order.iter().rev().find(|&&at| self.op(at).act.leaves().is_some()).map(|&last| self.op(last));
        let was = match (op.act, last) {
            (Act::Not(_), _) => "it was, and nothing can have changed it".to_owned(),
            (Act::Read(NOBODYS), _) => "no write of it can have succeeded".to_owned(),
            (_, Some(last)) => format!("the latest before that is that {}", self.register.say(last)),
            (_, None) => format!("it was {}", self.register.show(state)),
        };
        let lines = op.op.lines().chain(last.into_iter().flat_map(|last| last.op.lines()));
        (format!("{}, and {was}", self.register.say(op)), lines.collect())
    }

    /// A fenced write of unknown outcome that was seen took effect after what it replaced: its token was still current there.
    fn allowed(&self, order: &[usize], grants: &Grants<'_>) -> Result<(), Problem> {
        let mut last: Option<&RegOp<'_>> = None;
        for &at in order {
            let op = self.op(at);
            let seen = op.act.leaves().is_some_and(|value| value != ABSENT && self.seen.contains(&value));
            if let Some(last) = last.filter(|_| !op.known && seen) {
                self.allowed_after(op, last, grants)?;
            }
            if op.known && op.act.leaves().is_some() {
                last = Some(op);
            }
        }
        Ok(())
    }

    fn allowed_after(&self, op: &RegOp<'_>, last: &RegOp<'_>, grants: &Grants<'_>) -> Result<(), Problem> {
        let (Some(election), Some(token)) = (op.op.invoke.election.as_deref(), op.op.invoke.token) else {
            return Ok(());
        };
        let same = last.op.invoke.election.as_deref() == Some(election);
        let newer_write = last.op.invoke.token.is_some_and(|newer| same && newer > token);
        let granted = grants.get(election).and_then(|grants: &BTreeMap<u64, Grant<'_>>| {
            Some(grants.range(..=last.seq?).next_back()?.1).filter(|grant| grant.token > token)
        });
        if !newer_write && granted.is_none() {
            return Ok(());
        }
        let after = granted.map_or(String::new(), |grant| format!(", and after {grant}"));
        let detail = format!(
            "a stale write of unknown outcome was accepted: {} under token {token}, after {}{after}",
            self.register.say(op),
            self.register.say(last)
        );
        // Who saw it.
        let shown = self.register.ops.iter().find(|other| other.act.saw() == op.act.leaves());
        let lines = op.op.lines().chain(last.op.lines()).chain(shown.into_iter().flat_map(|shown| shown.op.lines()));
        Err((detail, lines.chain(granted.map(|grant| grant.line)).collect()))
    }

    /// The whole order, unknown operations and failed comparisons included, respects real time.
    fn real_time(&self, order: &[usize]) -> Result<(), Problem> {
        let mut earliest: Option<&RegOp<'_>> = None;
        for op in order.iter().rev().map(|&at| self.op(at)) {
            if let Some(later) = earliest.filter(|later| later.end < op.begin) {
                let said = (self.register.say(op), self.register.say(later));
                let detail = format!("{} comes before {}, which had ended before it began", said.0, said.1);
                return Err((detail, op.op.lines().chain(later.op.lines()).collect()));
            }
            if earliest.is_none_or(|earliest| op.end < earliest.end) {
                earliest = Some(op);
            }
        }
        Ok(())
    }
}
