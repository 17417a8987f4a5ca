//! The simulated disk: what was synced survives, what was not may go, and the same seed takes the same.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use palisade_storage::{EngineHealth, FullState, LogEngine, LogOp, SimDisk, SimEngine, StorageError};

use crate::support::{Rng, all, append, vote};

/// The number of a submit and what its callback heard.
type Outcome = (u64, Result<(), StorageError>);

/// Notes the outcomes of submits in the order of their callbacks.
#[derive(Clone, Default)]
struct Outcomes(Arc<Mutex<Vec<Outcome>>>);

impl Outcomes {
    fn submit(&self, engine: &SimEngine, number: u64, ops: Vec<LogOp>) {
        let outcomes = self.0.clone();
        engine.submit(ops, Some(Box::new(move |outcome| outcomes.lock().unwrap().push((number, outcome)))));
    }

    fn take(&self) -> Vec<Outcome> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Whether everything that was acknowledged survived.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Promise {
    Kept,
    Broken(String),
}

/// Writes and syncs as `seed` says, cuts the power, and compares what is left with what was acknowledged.
pub(crate) fn run_until_crash(disk: &SimDisk, seed: u64) -> Promise {
    let mut rng = Rng(seed);
    let engine = SimEngine::open(disk).unwrap();
    let outcomes = Outcomes::default();
    let first = engine.state().next();
    for step in 0..30 {
        let ops = match rng.below(4) {
            0 => vec![LogOp::Put { slot: palisade_storage::MetaSlot::Vote, bytes: step.to_string().into() }],
            _ => vec![append(engine.state().next(), format!("{step}"))],
        };
        outcomes.submit(&engine, step, ops);
        if rng.below(4) == 0 {
            disk.sync();
        }
    }
    let submitted = all(&engine);
    let (mut acknowledged_vote, mut acknowledged_last) = (None, first);
    for (step, outcome) in outcomes.take() {
        outcome.unwrap();
        match submitted.iter().find(|(_, bytes)| *bytes == step.to_string()) {
            Some((index, _)) => acknowledged_last = acknowledged_last.max(index + 1),
            None => acknowledged_vote = acknowledged_vote.max(Some(step)),
        }
    }
    disk.crash(rng.next());
    let engine = SimEngine::open(disk).unwrap();
    let state = engine.state();
    let vote: Option<u64> = state.vote.as_ref().map(|vote| std::str::from_utf8(vote).unwrap().parse().unwrap());
    if state.next() < acknowledged_last {
        return Promise::Broken(format!("seed {seed}: entries up to {acknowledged_last} acknowledged, {state:?}"));
    }
    if vote < acknowledged_vote {
        return Promise::Broken(format!("seed {seed}: vote {acknowledged_vote:?} acknowledged, {vote:?} is there"));
    }
    assert_eq!(all(&engine)[..], submitted[..all(&engine).len()], "what is left is a prefix");
    Promise::Kept
}

#[test]
fn what_was_acknowledged_survives_a_crash() {
    for seed in 0..300 {
        assert_eq!(run_until_crash(&SimDisk::new(), seed), Promise::Kept);
    }
}

#[test]
fn a_crash_takes_a_suffix_tears_a_record_and_repeats_itself() {
    let (mut lost, mut torn, mut kept_all) = (0, 0, 0);
    for seed in 0..200 {
        let once = || {
            let disk = SimDisk::new();
            let engine = SimEngine::open(&disk).unwrap();
            for index in 0..10 {
                engine.submit(vec![append(index, vec![1; 100])], None);
                if index == 3 {
                    disk.sync();
                }
            }
            let taken = disk.crash(seed);
            let left = SimEngine::open(&disk).unwrap().state().last.unwrap();
            assert!((3..10).contains(&left));
            assert_eq!(left + u64::try_from(taken.ops).unwrap() + u64::from(taken.torn), 9);
            (taken, left)
        };
        let (taken, left) = once();
        assert_eq!(once(), (taken, left), "seed {seed}");
        lost += usize::from(taken.ops > 0);
        torn += usize::from(taken.torn);
        kept_all += usize::from(left == 9);
    }
    assert!(lost > 50 && torn > 10 && kept_all > 5, "it does some of everything: {lost} {torn} {kept_all}");
}

#[test]
fn callbacks_come_with_the_sync_in_order() {
    let disk = SimDisk::new();
    let engine = Arc::new(SimEngine::open(&disk).unwrap());
    let outcomes = Outcomes::default();
    for number in 0..5 {
        outcomes.submit(&engine, number, vec![append(number, "x")]);
    }
    outcomes.submit(&engine, 5, Vec::new());
    assert_eq!(outcomes.take(), [], "nothing before the sync");
    assert_eq!(engine.state().last, Some(4), "readable at once");
    let (again, late) = (Arc::clone(&engine), outcomes.clone());
    engine.submit(vec![vote("a")], Some(Box::new(move |_| late.submit(&again, 7, vec![append(5, "late")]))));
    assert_eq!(disk.sync(), 6);
    let numbers: Vec<u64> =
        outcomes.take().into_iter().map(|(number, outcome)| outcome.map(|()| number).unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    assert_eq!(disk.unsynced(), 1, "what a callback submits waits for the next sync");
    disk.sync();
    assert_eq!(outcomes.take(), [(7, Ok(()))]);
    outcomes.submit(&engine, 8, Vec::new());
    assert_eq!(outcomes.take(), [(8, Ok(()))], "nothing to wait for");
}

#[test]
fn a_handle_of_a_dead_process_does_nothing() {
    let disk = SimDisk::new();
    let dead = SimEngine::open(&disk).unwrap();
    let outcomes = Outcomes::default();
    outcomes.submit(&dead, 0, vec![append(0, "x")]);
    disk.crash(1);
    disk.sync();
    assert_eq!(outcomes.take(), [], "a dead process hears nothing");
    outcomes.submit(&dead, 1, vec![append(0, "x")]);
    assert_eq!(outcomes.take(), [(1, Err(StorageError::Closed))]);
    assert_eq!(dead.read(0, 9, 9), Err(StorageError::Closed));
}

#[test]
fn a_process_that_ends_without_a_power_cut_leaves_its_writes() {
    let disk = SimDisk::new();
    SimEngine::open(&disk).unwrap().submit(vec![append(0, "x")], None);
    let engine = SimEngine::open(&disk).unwrap();
    assert_eq!(all(&engine), [(0, Bytes::from("x"))]);
    disk.crash(1);
    assert_eq!(SimEngine::open(&disk).unwrap().state().last, Some(0), "opening made it durable");
}

#[test]
fn a_failed_sync_stops_the_engine() {
    let disk = SimDisk::new();
    let engine = SimEngine::open(&disk).unwrap();
    let outcomes = Outcomes::default();
    outcomes.submit(&engine, 0, vec![append(0, "x")]);
    disk.fail_next_sync();
    disk.sync();
    assert!(matches!(outcomes.take()[..], [(0, Err(StorageError::Failed { .. }))]));
    assert!(matches!(engine.health(), EngineHealth::Failed { .. }));
    outcomes.submit(&engine, 1, vec![append(1, "x")]);
    disk.sync();
    assert!(matches!(outcomes.take()[..], [(1, Err(StorageError::Failed { .. }))]), "it never goes on");
    disk.crash(0);
    assert_eq!(SimEngine::open(&disk).unwrap().health(), EngineHealth::Ok, "a restart helps");
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads() {
    let disk = SimDisk::new();
    let engine = SimEngine::open(&disk).unwrap();
    let outcomes = Outcomes::default();
    outcomes.submit(&engine, 0, vec![append(0, "x")]);
    disk.fill();
    assert!(matches!(engine.health(), EngineHealth::DiskFull { state: FullState::ReserveReached, .. }));
    disk.sync();
    assert_eq!(outcomes.take(), [(0, Ok(()))], "what was written before can still be synced");
    outcomes.submit(&engine, 1, vec![append(1, "x")]);
    assert!(matches!(outcomes.take()[..], [(1, Err(StorageError::DiskFull { .. }))]));
    assert!(matches!(engine.health(), EngineHealth::DiskFull { state: FullState::WritesRefused, .. }));
    assert_eq!(all(&engine).len(), 1);
    disk.make_room();
    let engine = SimEngine::open(&disk).unwrap();
    assert_eq!((engine.health(), engine.state().last), (EngineHealth::Ok, Some(0)));
}
