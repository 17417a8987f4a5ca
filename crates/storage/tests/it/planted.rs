//! Each planted bug is caught by the check that is meant for it. Only with the feature `planted`.

use palisade_planted::{Bug, caught, choose};
use palisade_storage::{LogEngine, SimDisk, SimEngine};

use crate::kill::{Acknowledged, run_and_kill};
use crate::loop_disk::{Below, LoopDisk};
use crate::sim::{Promise, run_until_crash};
use crate::support::{append, skip, vote, write};
use crate::synced::{strace_is_missing, trace};
use crate::writer::{Job, Mode};
use crate::{kill_points, power_cut, snapshots};

#[test]
fn an_acknowledgement_before_the_sync_is_seen_by_strace() {
    if let Some(reason) = strace_is_missing() {
        return skip("an_acknowledgement_before_the_sync_is_seen_by_strace", "strace", &reason);
    }
    let seen = trace("ack-before-sync");
    assert!(seen.as_ref().is_err_and(|why| why.contains("acknowledged before the sync")), "{seen:?}");
}

#[test]
fn a_forgotten_vote_is_seen_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    let job = Job { mode: Mode::Stream, dir: dir.path(), round: 1, seed: 5, planted: "forget-vote" };
    run_and_kill(&job, 300, &mut acknowledged);
    let missing = acknowledged.check(dir.path()).unwrap_err();
    assert!(missing.starts_with("vote "), "{missing}");
}

#[test]
fn both_are_seen_by_a_simulated_crash() {
    let found = || (0..50).find(|seed| matches!(run_until_crash(&SimDisk::new(), *seed), Promise::Broken(_)));
    assert_eq!(found(), None, "nothing is wrong without a bug");
    for bug in [Bug::AckBeforeSync, Bug::ForgetVote] {
        choose(Some(bug));
        assert!(found().is_some(), "{bug:?} was not caught in 50 seeds");
    }
    choose(None);
}

#[test]
fn a_piece_of_a_snapshot_that_is_not_checked_is_noticed() {
    let why = caught(Bug::SnapshotPieceUnchecked, snapshots::a_damaged_piece_is_refused).unwrap();
    assert!(why.contains("a damaged piece was read"), "{why}");
}

#[test]
fn a_planted_bug_does_nothing_until_a_crash() {
    choose(Some(Bug::AckBeforeSync));
    let engine = SimEngine::open(&SimDisk::new()).unwrap();
    write(&engine, vec![append(0, "entry"), vote("vote")]).unwrap();
    assert_eq!(engine.state().last, Some(0));
    choose(None);
}

/// The rounds within which a power cut must have shown a bug.
const CUTS: u64 = 30;

#[test]
fn what_was_not_synced_is_missed_after_a_power_cut() {
    let disk = match LoopDisk::new(Below::Memory) {
        Ok(disk) => disk,
        Err(reason) => return skip("what_was_not_synced_is_missed_after_a_power_cut", "root", &reason),
    };
    let missing = power_cut::rounds(&disk, CUTS, 41, "skip-data-sync").err();
    println!("{missing:?}");
    assert!(missing.is_some(), "not caught in {CUTS} rounds");
}

#[test]
fn a_name_that_was_not_synced_is_missed_after_a_power_cut() {
    let disk = match LoopDisk::new(Below::Memory) {
        Ok(disk) => disk,
        Err(reason) => return skip("a_name_that_was_not_synced_is_missed_after_a_power_cut", "root", &reason),
    };
    let missing = power_cut::rounds_of_files(&disk, CUTS, 41, "skip-folder-sync").err();
    println!("{missing:?}");
    assert!(missing.is_some(), "not caught in {CUTS} rounds");
}

#[test]
fn a_second_answer_to_a_sync_that_failed_is_not_believed() {
    if let Some(reason) = strace_is_missing() {
        return skip("a_second_answer_to_a_sync_that_failed_is_not_believed", "strace", &reason);
    }
    let seen = kill_points::fail_a_sync(3, "go-on-after-failed-sync");
    assert!(seen.as_ref().is_err_and(|why| why.contains("these were acknowledged")), "{seen:?}");
}

#[test]
fn a_forgotten_vote_is_seen_after_a_kill_at_a_sync() {
    if let Some(reason) = strace_is_missing() {
        return skip("a_forgotten_vote_is_seen_after_a_kill_at_a_sync", "strace", &reason);
    }
    let seen = kill_points::kill_at_every_call("forget-vote");
    assert!(seen.as_ref().is_err_and(|why| why.contains("votes were acknowledged")), "{seen:?}");
}
