//! The checkers of registers against each other, on thousands of generated histories, good and bad.
//!
//! A model of a store and its clients makes them from a seed; a bug may be put in. What must hold: on a good history nobody finds
//! anything. On a bad one: what follows from unique values changes no answer of the search; what the search cannot explain, the replay
//! does not either; what `durable` objects to has no explanation. Where no two operations overlap there is one order only, and then
//! search and replay agree both ways. On tiny histories the search agrees with trying all orders.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::linearizable::{Answer, Budget, search};
use super::registers::{ABSENT, Act, RegOp, registers};
use super::{durable, linearizable, replay};
use crate::history::{History, Record, Type, f};
use crate::verdict::Verdict;

/// What the modelled store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// A read returns what was before the last write.
    StaleRead,
    /// A write is acknowledged and not done.
    LostWrite,
    /// A write that was answered "unknown" is done once more later.
    DoneTwice,
    /// A compare-and-set that does not match is done and acknowledged.
    NoCompare,
    /// A compare-and-set that matches is refused.
    RefusedMatch,
    /// A read tells the seq of before.
    OldSeq,
}

const BUGS: [Bug; 6] = [Bug::StaleRead, Bug::LostWrite, Bug::DoneTwice, Bug::NoCompare, Bug::RefusedMatch, Bug::OldSeq];

/// The shape of a generated history.
#[derive(Clone, Copy)]
struct Shape {
    clients: usize,
    operations: usize,
    /// Of a hundred writes, how many end unknown.
    unknown: u32,
}

/// A client with an operation in flight.
struct Flight {
    invoke: Record,
    /// What it will be told; none: not done yet.
    answer: Option<Record>,
}

struct Model {
    rng: SmallRng,
    records: Vec<Record>,
    /// All values that the register has had.
    past: Vec<Value>,
    seq: u64,
    /// Operations that nobody waits for any more, and that are not done yet.
    late: Vec<Record>,
    next: u64,
    processes: usize,
    bug: Bug,
    /// How often the bug did something.
    bitten: usize,
}

impl Model {
    fn now(&self) -> Value {
        self.past.last().cloned().unwrap_or(Value::Null)
    }

    fn set(&mut self, value: Value) {
        self.past.push(value);
    }

    fn write(&mut self, record: Record) {
        let time_ns = self.records.len() as u64;
        self.records.push(Record { time_ns, ..record });
    }

    /// Whether the bug strikes here.
    fn strikes(&mut self, bug: Bug) -> bool {
        let strikes = self.bug == bug && self.rng.random_range(0..4) == 0;
        self.bitten += usize::from(strikes);
        strikes
    }

    fn invoke(&mut self) -> Record {
        let process = self.processes.to_string();
        let (f, value) = match self.rng.random_range(0..10) {
            0..4 => (f::READ, Value::Null),
            4..7 => (f::WRITE, self.fresh()),
            7..9 => {
                // Often what it is, so that it matches.
                let old = if self.rng.random_bool(0.6) { self.now() } else { self.any() };
                (f::CAS, json!([old, self.fresh()]))
            }
            _ => (f::DELETE, Value::Null),
        };
        let mut record = Record::new(process, Type::Invoke, f);
        record.key = Some("r".to_owned());
        record.value = value;
        record
    }

    fn fresh(&mut self) -> Value {
        self.next += 1;
        self.next.into()
    }

    fn any(&mut self) -> Value {
        let at = self.rng.random_range(0..=self.past.len());
        self.past.get(at).cloned().unwrap_or(Value::Null)
    }

    /// The operation takes effect; gives its answer.
    fn effect(&mut self, invoke: &Record) -> Record {
        let now = self.now();
        let mut answer = invoke.ended(Type::Ok);
        match invoke.f.as_str() {
            f::READ => {
                answer.value = now.clone();
                if self.past.len() > 1 && self.strikes(Bug::StaleRead) {
                    answer.value = self.past[self.past.len() - 2].clone();
                }
                answer.seq = Some(self.seq);
                if self.seq > 0 && self.strikes(Bug::OldSeq) {
                    answer.seq = Some(self.seq - 1);
                }
                return answer;
            }
            f::CAS => {
                let (old, new) = (invoke.value[0].clone(), invoke.value[1].clone());
                let matches = old == now;
                if (matches && !self.strikes(Bug::RefusedMatch)) || (!matches && self.strikes(Bug::NoCompare)) {
                    self.set(new);
                } else {
                    answer = Record { error: Some("compare".into()), ..invoke.ended(Type::Fail) };
                }
            }
            f::WRITE => {
                if !self.strikes(Bug::LostWrite) {
                    self.set(invoke.value.clone());
                }
            }
            _ => self.set(Value::Null),
        }
        self.seq += 1;
        answer.seq = Some(self.seq);
        answer
    }
}

/// A history, and how often the bug did something in it.
fn generate(seed: u64, shape: Shape, bug: Bug) -> (History, usize) {
    let mut model = Model {
        rng: SmallRng::seed_from_u64(seed),
        records: Vec::new(),
        past: Vec::new(),
        seq: 0,
        late: Vec::new(),
        next: 0,
        processes: shape.clients,
        bug,
        bitten: 0,
    };
    let mut flights: Vec<Option<Flight>> = (0..shape.clients).map(|_| None).collect();
    let mut names: Vec<usize> = (0..shape.clients).collect();
    let mut left = shape.operations;
    while left > 0 || flights.iter().any(Option::is_some) {
        // What was given up may still be done, at any later time.
        if !model.late.is_empty() && model.rng.random_range(0..8) == 0 {
            let at = model.rng.random_range(0..model.late.len());
            let late = model.late.swap_remove(at);
            model.effect(&late);
            if late.f == f::WRITE && model.strikes(Bug::DoneTwice) {
                model.late.push(late);
            }
        }
        let client = model.rng.random_range(0..shape.clients);
        let Some(mut flight) = flights[client].take() else {
            if left > 0 {
                left -= 1;
                let invoke = Record { process: names[client].to_string(), ..model.invoke() };
                model.write(invoke.clone());
                flights[client] = Some(Flight { invoke, answer: None });
            }
            continue;
        };
        let read = flight.invoke.f == f::READ;
        if !read && model.rng.random_range(0..100) < shape.unknown {
            let lost = Record { error: Some("timeout".into()), ..flight.invoke.ended(Type::Info) };
            model.write(lost);
            if flight.answer.is_none() {
                model.late.push(flight.invoke);
            }
            (names[client], model.processes) = (model.processes, model.processes + 1);
        } else if let Some(answer) = flight.answer.take() {
            model.write(answer);
        } else {
            flight.answer = Some(model.effect(&flight.invoke));
            flights[client] = Some(flight);
        }
    }
    (History::new(model.records), model.bitten)
}

fn explained(ops: &[RegOp<'_>]) -> bool {
    match search(ops, &mut Budget::default()) {
        Answer::Linearizable => true,
        Answer::Not(_) => false,
        Answer::GaveUp => panic!("a small history must be decided"),
    }
}

struct Verdicts {
    search: bool,
    replay: bool,
    durable: bool,
}

/// All verdicts on one history; true: nothing wrong. Fails where two of them cannot both be right.
fn compare(history: &History, what: &str) -> Verdicts {
    let text = || {
        let lines = history.records().iter().map(|record| serde_json::to_string(record).unwrap());
        format!("{what}:\n{}", lines.collect::<Vec<_>>().join("\n"))
    };
    let registers = registers(history);
    let whole = registers.iter().all(|register| explained(&register.ops));
    let short = linearizable::check(history, Budget::default());
    assert_eq!(
        whole,
        short.verdict != Verdict::Violation,
        "the search with and without what follows from unique values: {}",
        text()
    );
    let replayed = replay::check(history);
    let replay = replayed.verdict != Verdict::Violation;
    assert!(whole || !replay, "the search finds no order, and the replay does ({replayed}): {}", text());
    let durable = durable::check(history);
    assert!(durable.verdict != Verdict::Violation || !whole, "{durable}, and there is an order: {}", text());
    Verdicts { search: whole, replay, durable: durable.verdict != Verdict::Violation }
}

#[test]
fn nobody_finds_fault_with_a_good_history() {
    for seed in 0..1500 {
        let shape = Shape { clients: 1 + seed as usize % 5, operations: 30, unknown: [0, 5, 25][seed as usize % 3] };
        let (history, _) = generate(seed, shape, Bug::None);
        let verdicts = compare(&history, &format!("seed {seed}"));
        let replayed = replay::check(&history);
        assert!(verdicts.search && verdicts.replay && verdicts.durable, "seed {seed}: {replayed}");
    }
}

#[test]
fn a_bad_history_is_judged_alike_by_all() {
    let (mut bitten, mut by_search, mut by_replay) = (0, 0, 0);
    for seed in 0..1800 {
        let bug = BUGS[seed as usize % BUGS.len()];
        let shape =
            Shape { clients: 2 + seed as usize % 4, operations: 24, unknown: [0, 5, 20][seed as usize / 7 % 3] };
        let (history, times) = generate(seed, shape, bug);
        let verdicts = compare(&history, &format!("seed {seed}, {bug:?}"));
        bitten += usize::from(times > 0);
        by_search += usize::from(!verdicts.search);
        by_replay += usize::from(!verdicts.replay);
        assert!(times > 0 || verdicts.replay, "seed {seed}: nothing went wrong, and something was found");
    }
    println!("{bitten} histories with a fault in them: {by_search} found by the search, {by_replay} by the replay");
    assert!(
        by_replay > by_search && by_search * 3 > bitten,
        "{bitten} bad histories, {by_search} and {by_replay} found"
    );
}

#[test]
fn where_nothing_overlaps_search_and_replay_agree_both_ways() {
    let mut bad = 0;
    for seed in 0..2000 {
        // One client: its operations never overlap, and what it gave up may still be done.
        let bug = [Bug::None, Bug::StaleRead, Bug::LostWrite, Bug::DoneTwice, Bug::NoCompare, Bug::RefusedMatch]
            [seed as usize % 6];
        let shape = Shape { clients: 1, operations: 20, unknown: [0, 10, 30][seed as usize / 6 % 3] };
        let (history, _) = generate(seed, shape, bug);
        let verdicts = compare(&history, &format!("seed {seed}, {bug:?}"));
        let replayed = replay::check(&history);
        let text =
            || history.records().iter().map(|r| serde_json::to_string(r).unwrap()).collect::<Vec<_>>().join("\n");
        assert_eq!(verdicts.search, verdicts.replay, "seed {seed}, {bug:?}: {replayed}\n{}", text());
        bad += usize::from(!verdicts.search);
    }
    assert!(bad > 400, "only {bad} of the histories were bad");
}

/// Tries every order of every choice of unknown operations.
fn all_orders(ops: &[RegOp<'_>], left: &mut Vec<usize>, state: u32) -> bool {
    if left.iter().all(|&at| !ops[at].known) {
        return true;
    }
    for place in 0..left.len() {
        let at = left[place];
        // Nothing that is still to come may have ended before this one began.
        if left.iter().any(|&other| ops[other].end < ops[at].begin) {
            continue;
        }
        if let Some(next) = ops[at].act.apply(state) {
            left.remove(place);
            let found = all_orders(ops, left, next);
            left.insert(place, at);
            if found {
                return true;
            }
        }
    }
    false
}

#[test]
fn on_tiny_histories_the_search_agrees_with_trying_all_orders() {
    let mut bad = 0;
    for seed in 0..1500 {
        let bug = BUGS[seed as usize % BUGS.len()];
        let (history, _) = generate(seed, Shape { clients: 3, operations: 9, unknown: 15 }, bug);
        for register in registers(&history) {
            let tried = all_orders(&register.ops, &mut (0..register.ops.len()).collect(), ABSENT);
            assert_eq!(tried, explained(&register.ops), "seed {seed}, {bug:?}: {history:?}");
            bad += usize::from(!tried);
        }
    }
    assert!(bad > 100, "only {bad} of the histories were bad");
}

#[test]
fn a_long_history_is_decided_by_both() {
    let (history, _) = generate(7, Shape { clients: 8, operations: 4000, unknown: 3 }, Bug::None);
    let replayed = replay::check(&history);
    assert_eq!(replayed.verdict, Verdict::Pass, "{replayed}");
    let searched = linearizable::check(&history, Budget::default());
    assert_ne!(searched.verdict, Verdict::Violation, "{searched}");
    println!("{searched}");
}

#[test]
fn an_act_that_leaves_a_value_says_so() {
    assert_eq!(Act::Cas { old: 1, new: 2 }.apply(1), Some(2));
    assert_eq!(Act::Cas { old: 1, new: 2 }.apply(3), None);
    assert_eq!((Act::Not(1).apply(1), Act::Not(1).apply(2)), (None, Some(2)));
}
