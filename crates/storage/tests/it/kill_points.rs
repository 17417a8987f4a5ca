//! Each sync in turn is the last thing that a process does, or fails: a process under `strace` is killed as it enters its n-th
//! call, or told that the disk has failed, for n = 1, 2, ... Nothing acknowledged may be missing afterwards; a store whose sync
//! failed once says so, and acknowledges nothing any more.

use std::path::Path;

use palisade_storage::{DataFolder, EngineHealth, FileSnapshots, LogEngine, OpenError, SnapshotStore};

use crate::kill::{Acknowledged, run_and_kill};
use crate::support::{append, assert_no_blobs, open, quick_dir, skip, write};
use crate::synced::strace_is_missing;
use crate::writer::{Job, Mode, RESTORED, lines, start};

/// Everything by which something becomes durable. The question mark: not every machine has all of them.
const DURABLE: &str = "fsync,fdatasync,?rename,?renameat,?renameat2";

/// More than any process here makes of these calls on one thread: beyond it nothing is injected any more, or the test is wrong.
const CALLS: u64 = 60;

/// Runs a process in which something happens at the n-th such call of a thread (strace counts for each thread); what it said.
fn run(job: &Job<'_>, calls: &str, fate: &str, n: u64) -> Vec<String> {
    let inject = format!("inject={calls}:{fate}:when={n}");
    let mut child =
        start(job, &["strace", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &inject]);
    let said = lines(&mut child).collect();
    child.wait().unwrap();
    said
}

/// How many of the twenty writes of [`Mode::Single`] were acknowledged.
fn acknowledged(said: &[String]) -> u64 {
    said.iter().filter_map(|line| line.strip_prefix("ack ")?.parse::<u64>().ok()).max().map_or(0, |last| last + 1)
}

/// Of its first writes every fourth is a vote, the others are entries.
fn check_single(dir: &Path, acknowledged: u64) -> Result<(), String> {
    let engine = open(dir).map_err(|error| error.to_string())?;
    let (votes, state) = (acknowledged / 4, engine.state());
    let vote = state.vote.as_ref().map(|vote| std::str::from_utf8(vote).unwrap().parse::<u64>().unwrap());
    if vote < votes.checked_sub(1).map(|last| 4 * last + 3) {
        return Err(format!("{votes} votes were acknowledged, {vote:?} is there"));
    }
    if state.next() < acknowledged - votes {
        return Err(format!("{} entries were acknowledged, {} are there", acknowledged - votes, state.next()));
    }
    write(&engine, vec![append(state.next(), "goes on")]).map_err(|error| error.to_string())
}

/// Kills a process at each such call, each time in a new folder; how many calls there were, or what went wrong.
pub(crate) fn kill_at_every_call(planted: &str) -> Result<u64, String> {
    for n in 1..CALLS {
        let dir = quick_dir();
        let said =
            run(&Job { mode: Mode::Single, dir: dir.path(), round: 1, seed: 1, planted }, DURABLE, "signal=KILL", n);
        check_single(dir.path(), acknowledged(&said)).map_err(|why| format!("killed at call {n}: {why}"))?;
        if acknowledged(&said) == 20 {
            return Ok(n);
        }
    }
    Err(format!("there are more than {CALLS} calls"))
}

#[test]
fn a_kill_at_any_sync_loses_nothing() {
    if let Some(reason) = strace_is_missing() {
        return skip("a_kill_at_any_sync_loses_nothing", "strace", &reason);
    }
    // Each of the twenty writes has a sync of its own.
    let calls = kill_at_every_call("").unwrap();
    assert!(calls > 20, "{calls}");
}

#[test]
fn a_kill_at_any_sync_of_a_recovery_loses_nothing() {
    if let Some(reason) = strace_is_missing() {
        return skip("a_kill_at_any_sync_of_a_recovery_loses_nothing", "strace", &reason);
    }
    let dir = quick_dir();
    let mut acknowledged = Acknowledged::default();
    let job = Job { mode: Mode::Heavy, dir: dir.path(), round: 1, seed: 3, planted: "" };
    run_and_kill(&job, 200, &mut acknowledged);
    let mut killed = 0;
    for n in 1..CALLS {
        let job = Job { mode: Mode::Single, round: 1 + n, ..job };
        let said = run(&job, DURABLE, "signal=KILL", n);
        if said.iter().any(|line| line == "opened") {
            break;
        }
        killed += 1;
    }
    // At least: the log, its file, its folder, the data folder, the folder above.
    assert!((5..CALLS - 1).contains(&killed), "{killed}");
    acknowledged.check(dir.path()).unwrap();
    assert_no_blobs(dir.path());
}

/// Lets the n-th sync of the log fail, once; what must not have happened, or the words that were said.
pub(crate) fn fail_a_sync(n: u64, planted: &str) -> Result<String, String> {
    let dir = quick_dir();
    let job = Job { mode: Mode::Persistent, dir: dir.path(), round: 1, seed: 1, planted };
    let said = run(&job, "fdatasync", "error=EIO", n);
    let votes: Vec<u64> = said.iter().filter_map(|line| line.strip_prefix("vote ")?.parse().ok()).collect();
    if votes != (0..n - 1).collect::<Vec<_>>() {
        return Err(format!("sync {n} failed, and these were acknowledged: {votes:?}"));
    }
    let engine = open(dir.path()).map_err(|error| error.to_string())?;
    let vote = engine.state().vote.map(|vote| std::str::from_utf8(&vote).unwrap().parse::<u64>().unwrap());
    if vote < votes.last().copied() {
        return Err(format!("{votes:?} were acknowledged, {vote:?} is there"));
    }
    assert_eq!(engine.health(), EngineHealth::Ok, "after a restart it is known again what is on the disk");
    Ok(said.join("\n"))
}

#[test]
fn after_a_sync_that_failed_nothing_is_acknowledged_any_more() {
    if let Some(reason) = strace_is_missing() {
        return skip("after_a_sync_that_failed_nothing_is_acknowledged_any_more", "strace", &reason);
    }
    // The first one on another thread, which opens the log.
    for n in [2, 3, 9, 20] {
        let said = fail_a_sync(n, "").unwrap();
        let words = "the disk failed: fdatasync /";
        assert!(said.contains(&format!("refused {} {words}", n - 1)), "{said}");
        assert!(n == 20 || said.contains(&format!("refused 19 {words}")), "it goes on with nothing: {said}");
        assert!(said.contains("health the log has failed") && said.contains("; restart this node"), "{said}");
        assert!(said.contains("Input/output error"), "{said}");
    }
    let said = fail_a_sync(1, "").unwrap();
    let words = said.lines().find(|line| line.starts_with("not opened")).expect("it must not open");
    assert!(words.contains("syncing") && words.contains("Input/output error") && !words.contains("lost"), "{words}");
}

/// What a folder is after a restore that was killed: nobody's yet, told to be unfinished, or whole. Never a new node's with nothing or a
/// part in it.
fn check_restored(dir: &Path, said: &[String]) -> Result<&'static str, String> {
    let whole = said.iter().any(|line| line == "restored");
    match DataFolder::open(dir, 9) {
        Err(OpenError::RestoreInterrupted { .. }) if !whole => Ok("unfinished"),
        Err(error) => Err(error.to_string()),
        Ok(folder) => {
            let snapshots = FileSnapshots::open(&folder).map_err(|error| error.to_string())?;
            let latest = snapshots.latest().map_err(|error| error.to_string())?;
            match latest {
                Some(latest) if latest.bytes() == RESTORED as u64 => Ok("whole"),
                // It was killed before anything was in the folder but its lock.
                None if !said.iter().any(|line| line == "begun") && folder.store_id() == 9 => Ok("nobody's"),
                latest => Err(format!("a folder was opened with {:?} in it", latest.map(|it| it.bytes()))),
            }
        }
    }
}

#[test]
fn a_restore_that_is_killed_at_any_sync_leaves_no_folder_that_is_taken_for_a_new_nodes() {
    if let Some(reason) = strace_is_missing() {
        let name = "a_restore_that_is_killed_at_any_sync_leaves_no_folder_that_is_taken_for_a_new_nodes";
        return skip(name, "strace", &reason);
    }
    // strace counts each call for itself.
    for (calls, least) in [("fsync,fdatasync", 10), ("?rename,?renameat,?renameat2", 4), ("?unlink,?unlinkat", 1)] {
        let mut seen = Vec::new();
        for n in 1..CALLS {
            let parent = quick_dir();
            // One that is not there yet, as an operator names it.
            let dir = parent.path().join("node");
            let job = Job { mode: Mode::Restore, dir: &dir, round: 1, seed: 1, planted: "" };
            let said = run(&job, calls, "signal=KILL", n);
            let found = check_restored(&dir, &said);
            seen.push(found.unwrap_or_else(|why| panic!("killed at {calls} {n}: {why}; {said:?}")));
            if said.iter().any(|line| line == "restored") {
                break;
            }
        }
        assert!(seen.len() > least && seen.len() < CALLS as usize - 1, "{calls}: {seen:?}");
        assert_eq!(seen.last(), Some(&"whole"), "{calls}: {seen:?}");
        assert!(seen.contains(&"unfinished"), "{calls}: {seen:?}");
    }
}
