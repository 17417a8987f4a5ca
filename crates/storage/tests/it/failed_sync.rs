//! A disk that fails and comes back, in earnest: a device that refuses writes for a while, below a file system that goes on. After a
//! sync that failed the system keeps what it could not write in memory, and calls it clean; no later sync fails again, and whoever
//! reads finds it there, until the memory is needed for something else or the power goes. Needs root.

use palisade_storage::{LogEngine, OpenError};

use crate::loop_disk::LoopDisk;
use crate::support::{open, skip};
use crate::writer::{Job, Mode, lines, start};

/// When the device breaks.
const ACKNOWLEDGED: &str = "entry 30";

#[test]
fn trap_postgresql_a_restart_after_a_sync_that_failed_believes_what_is_in_memory_alone() {
    let disk = match LoopDisk::thin() {
        Ok(disk) => disk,
        Err(reason) => {
            let name = "trap_postgresql_a_restart_after_a_sync_that_failed_believes_what_is_in_memory_alone";
            return skip(name, "root", &reason);
        }
    };
    let dir = disk.path().join("store");
    let job = Job { mode: Mode::UntilRefused, dir: &dir, round: 1, seed: 1, planted: "" };
    let mut child = start(&job, &[]);
    let (mut acknowledged, mut refused) = (None, None);
    for line in lines(&mut child) {
        match line.split_once(' ') {
            Some(("entry", index)) => acknowledged = Some(index.parse::<u64>().unwrap()),
            Some(("refused", why)) => refused = Some(why.to_owned()),
            _ => {}
        }
        if line == ACKNOWLEDGED {
            disk.break_it();
        }
    }
    child.wait().unwrap();
    let refused = refused.expect("the device refuses what is new");
    // The system says "no space" of such a device, and of others "input/output error": what it keeps in memory is the same.
    assert!(refused.contains("disk full") || refused.contains("the disk failed"), "{refused}");
    disk.mend();

    let engine = match open(&dir) {
        Ok(engine) => engine,
        // It has looked at the disk. sled drops the last batch before a hole in its file, and that one was acknowledged: a pity, and
        // never a vote or an entry that is believed and not there.
        Err(OpenError::Lost { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let found = engine.state();
    drop(engine);
    assert!(found.last >= acknowledged, "{acknowledged:?} was acknowledged, {found:?} is there");
    // What the node takes for durable after its restart is still there when the memory is gone.
    disk.cut();
    disk.power_on();
    let kept = open(&dir).unwrap_or_else(|error| panic!("it had {found:?}: {error}")).state();
    assert_eq!(kept.last, found.last, "it was taken for durable, and was in memory alone");
}
