//! Each planted bug is caught by the check that is meant for it. Only with the feature `planted`.

use palisade_planted::{Bug, choose};
use palisade_storage::{LogEngine, SimDisk, SimEngine};

use crate::kill::{Acknowledged, run_and_kill};
use crate::sim::{Promise, run_until_crash};
use crate::support::{append, skip, vote, write};
use crate::synced::{strace_is_missing, trace};
use crate::writer::{Job, Mode};

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
    let caught = || (0..50).find(|seed| matches!(run_until_crash(&SimDisk::new(), *seed), Promise::Broken(_)));
    assert_eq!(caught(), None, "nothing is wrong without a bug");
    for bug in [Bug::AckBeforeSync, Bug::ForgetVote] {
        choose(Some(bug));
        assert!(caught().is_some(), "{bug:?} was not caught in 50 seeds");
    }
    choose(None);
}

#[test]
fn a_planted_bug_does_nothing_until_a_crash() {
    choose(Some(Bug::AckBeforeSync));
    let engine = SimEngine::open(&SimDisk::new()).unwrap();
    write(&engine, vec![append(0, "entry"), vote("vote")]).unwrap();
    assert_eq!(engine.state().last, Some(0));
    choose(None);
}
