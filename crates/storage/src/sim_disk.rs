//! A disk in memory that tells "written" from "synced": the handle that outlives simulated processes.
//!
//! No threads, no timers, no randomness of its own: whoever holds the handle decides when it syncs, fails, fills up and
//! loses power. It keeps true what the sled engine promises (order, prefix after a crash, callbacks after the sync), so
//! that what holds above one holds above the other. Records lie encoded as on a real disk and are checked at opening.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use palisade_planted::{self as planted, Bug};

use crate::{Done, LogOp, LogState, MetaSlot, Snapshot, StorageError, record};

/// The disk of one simulated node. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Disk>>,
}

/// What is on the disk, what is only written, and what is wrong with it.
#[derive(Default)]
pub(crate) struct Disk {
    /// What a power cut leaves.
    durable: Image,
    /// What a reader sees: durable and everything submitted.
    pub(crate) live: Image,
    /// Submitted and not synced, in order.
    unsynced: VecDeque<Unsynced>,
    /// Counts openings and crashes: a handle of an earlier process is dead.
    pub(crate) process: u64,
    /// The first failure of this process; nothing is written after it.
    pub(crate) failure: Option<StorageError>,
    sync_fails: bool,
    pub(crate) full: bool,
    /// Little space is left: it is told, and writes are still taken.
    pub(crate) low: bool,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) save_fails: bool,
}

struct Unsynced {
    op: LogOp,
    /// Stands at the last operation of its submit.
    done: Option<Done>,
}

/// A log with its encoded records.
#[derive(Clone, Default)]
pub(crate) struct Image {
    pub(crate) state: LogState,
    /// Invariant: exactly the indexes that `state` says.
    records: BTreeMap<u64, Bytes>,
}

/// What a crash took, for the trace of a simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Operations that were submitted, not synced, and are gone.
    pub ops: usize,
    /// Whether the last record that was left on the disk was torn, to be dropped at opening.
    pub torn: bool,
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// Makes everything submitted so far durable and calls its callbacks, in order, on this thread. Returns the number of
    /// operations. What callbacks submit waits for the next sync.
    pub fn sync(&self) -> usize {
        let (callbacks, outcome, count) = {
            let mut disk = self.lock();
            let outcome = disk.sync();
            let mut callbacks = Vec::new();
            let mut count = 0;
            match outcome {
                Ok(()) => {
                    let unsynced = std::mem::take(&mut disk.unsynced);
                    count = unsynced.len();
                    for Unsynced { op, done } in unsynced {
                        disk.write(&op);
                        callbacks.extend(done);
                    }
                }
                // What failed to sync stays unsynced: a crash may keep or lose it.
                Err(_) => callbacks.extend(disk.unsynced.iter_mut().filter_map(|unsynced| unsynced.done.take())),
            }
            (callbacks, outcome, count)
        };
        for done in callbacks {
            done(outcome.clone());
        }
        count
    }

    /// Operations that the next sync will cover.
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Cuts the power: a suffix of what was not synced is gone, as long as `seed` says, and the last operation that
    /// reached the disk may be torn. No callback of the dead process is called any more; its handles are dead.
    pub fn crash(&self, seed: u64) -> Lost {
        let mut disk = self.lock();
        let unsynced = std::mem::take(&mut disk.unsynced);
        let (kept, tear) = choose(seed, unsynced.len());
        let lost = unsynced.len() - kept;
        for Unsynced { op, .. } in unsynced.iter().take(kept) {
            disk.write(op);
        }
        let torn = tear && kept > 0 && disk.durable.tear(&unsynced[kept - 1].op);
        disk.process += 1;
        // Callbacks are dropped outside the lock: they may hold the last handle of something.
        drop(disk);
        drop(unsynced);
        Lost { ops: lost, torn }
    }

    /// The next sync fails, and with it the engine of this process.
    pub fn fail_next_sync(&self) {
        self.lock().sync_fails = true;
    }

    /// The next save of a snapshot fails.
    pub fn fail_next_save(&self) {
        self.lock().save_fails = true;
    }

    /// No space is left: the next submit is refused, and the engine of that process with it.
    pub fn fill(&self) {
        self.lock().full = true;
    }

    /// Little space is left, which is told before anything is refused, as a reserve lets it be.
    pub fn run_low(&self) {
        self.lock().low = true;
    }

    /// Space is left again. A process whose writes were refused has to restart.
    pub fn make_room(&self) {
        let mut disk = self.lock();
        (disk.full, disk.low) = (false, false);
    }

    /// A new process takes the disk over: checks it and makes what is on it durable, as the sled engine does.
    pub(crate) fn take_over(&self) -> Result<u64, String> {
        let (process, dropped) = {
            let mut disk = self.lock();
            // A process that ended without a power cut leaves its writes to the page cache.
            let unsynced = std::mem::take(&mut disk.unsynced);
            for Unsynced { op, .. } in &unsynced {
                disk.write(op);
            }
            disk.durable.check()?;
            disk.live = disk.durable.clone();
            disk.failure = None;
            disk.sync_fails = false;
            disk.process += 1;
            (disk.process, unsynced)
        };
        drop(dropped);
        Ok(process)
    }

    /// Takes a submit, or gives the callback back with the reason.
    pub(crate) fn submit(&self, process: u64, ops: Vec<LogOp>, done: Option<Done>) {
        let called_now = {
            let mut disk = self.lock();
            match disk.admit(process, &ops) {
                Err(error) => done.map(|done| (done, Err(error))),
                Ok(()) => disk.enqueue(ops, done),
            }
        };
        if let Some((done, outcome)) = called_now {
            done(outcome);
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Disk> {
        // Tests that fail while holding it should report their own failure, not the poison.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// Whether a submit may go on; steps the live image if so.
    fn admit(&mut self, process: u64, ops: &[LogOp]) -> Result<(), StorageError> {
        if process != self.process {
            return Err(StorageError::Closed);
        }
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.full {
            self.failure = Some(StorageError::DiskFull { free_bytes: 0 });
            return Err(StorageError::DiskFull { free_bytes: 0 });
        }
        for op in ops {
            if let Err(error) = self.live.write(op) {
                self.failure = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Queues a submit; gives the callback back if it is to be called at once.
    fn enqueue(&mut self, ops: Vec<LogOp>, done: Option<Done>) -> Option<(Done, Result<(), StorageError>)> {
        if planted::is(Bug::AckBeforeSync) {
            self.unsynced.extend(ops.into_iter().map(|op| Unsynced { op, done: None }));
            return done.map(|done| (done, Ok(())));
        }
        self.unsynced.extend(ops.into_iter().map(|op| Unsynced { op, done: None }));
        match self.unsynced.back_mut() {
            // Behind whatever was queued before, also when it brought no operation of its own.
            Some(last) => {
                last.done = chain(last.done.take(), done);
                None
            }
            None => done.map(|done| (done, Ok(()))),
        }
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        if let Some(failure) = &self.failure
            && !matches!(failure, StorageError::DiskFull { .. })
        {
            return Err(failure.clone());
        }
        if std::mem::take(&mut self.sync_fails) {
            let failure = StorageError::Failed { why: "fdatasync: input/output error (simulated)".to_owned() };
            self.failure = Some(failure.clone());
            return Err(failure);
        }
        Ok(())
    }

    /// Puts one operation on the disk.
    fn write(&mut self, op: &LogOp) {
        if planted::is(Bug::ForgetVote) && matches!(op, LogOp::Put { slot: MetaSlot::Vote, .. }) {
            return;
        }
        self.durable.write(op).expect("the live image took the same operations in the same order");
    }
}

impl Image {
    pub(crate) fn write(&mut self, op: &LogOp) -> Result<(), StorageError> {
        self.state.step(op)?;
        match op {
            LogOp::Append { index, bytes } => {
                self.records.insert(*index, record::encode(*index, record::NONE_BEFORE, bytes));
            }
            LogOp::TruncateAfter { .. } | LogOp::Purge { .. } => self.drop_outside(),
            LogOp::Put { .. } => {}
        }
        Ok(())
    }

    /// Drops the records that the state no longer holds.
    fn drop_outside(&mut self) {
        match self.state.last {
            Some(last) => {
                self.records.split_off(&(last + 1));
                self.records = self.records.split_off(&self.state.first);
            }
            None => self.records.clear(),
        }
    }

    /// The payload of an entry that the state says is held.
    pub(crate) fn entry(&self, index: u64) -> Result<Bytes, StorageError> {
        let corrupt = |why: String| StorageError::Corrupt { what: format!("entry {index}: {why}") };
        let record = self.records.get(&index).ok_or_else(|| corrupt("it is missing".to_owned()))?;
        record::decode(index, record.clone()).map(|record| record.payload).map_err(|why| corrupt(why.to_string()))
    }

    /// Leaves half of the record that `op` wrote last. Nothing else can be torn: slots are single items.
    fn tear(&mut self, op: &LogOp) -> bool {
        let LogOp::Append { index, .. } = op else { return false };
        let Some(record) = self.records.get_mut(index) else { return false };
        record.truncate(record.len() / 2);
        true
    }

    /// Opening: every record is there and whole. A torn last one was never acknowledged, for only a crash tears and only
    /// what was not synced; it is dropped.
    fn check(&mut self) -> Result<(), String> {
        if let Some(last) = self.state.last
            && let Some(record) = self.records.get(&last)
            && record::decode(last, record.clone()) == Err(record::RecordError::Torn)
        {
            self.records.remove(&last);
            self.state.last = last.checked_sub(1).filter(|last| *last >= self.state.first);
        }
        let Some(last) = self.state.last else { return Ok(()) };
        for index in self.state.first..=last {
            self.entry(index).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Both callbacks, in order, as one.
fn chain(first: Option<Done>, second: Option<Done>) -> Option<Done> {
    match (first, second) {
        (Some(first), Some(second)) => Some(Box::new(move |outcome: Result<(), StorageError>| {
            first(outcome.clone());
            second(outcome);
        })),
        (first, second) => first.or(second),
    }
}

/// How many of `count` operations survive, and whether the last of them is torn: SplitMix64, so that a seed is enough.
fn choose(seed: u64, count: usize) -> (usize, bool) {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    let kept = usize::try_from((mixed >> 8) % (count as u64 + 1)).expect("at most count");
    (kept, mixed & 3 == 0)
}
