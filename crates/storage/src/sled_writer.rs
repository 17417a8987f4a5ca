//! The one thread that writes: drain what is queued, write it in order, `flush`, `fdatasync`, then the callbacks in order.
//! There is no timer: while one group syncs the next one gathers, so that a group is as large as the disk is slow. A mark of
//! what is committed makes no group of its own while writes follow each other: the next would wait for its sync.
//!
//! It keeps true: groups are written in the order of their submits; a callback hears `Ok` only after the sync that covers
//! it; after the first error nothing is written any more, for what is on the disk is then unknown.

use std::cell::Cell;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use palisade_planted::{self as planted, Bug};

use crate::acked_mark::{Acked, AckedMark};
use crate::log_metrics::Stopwatch;
use crate::sled_engine::{Job, Life, Shared};
use crate::sled_log::{End, Purging, SledLog};
use crate::{DataFolder, LogOp, MetaSlot, StorageError, disk_space};

/// Groups of appended entries between two that also write metadata. Metadata lies in a tree of its own and costs a quarter of a
/// small group's time; without it a start applies a little less before it hears from the others, and the promise of the log's end,
/// which is the second of two checks, lags behind.
const APPENDS_BETWEEN: u32 = 64;

/// So long nothing is submitted before a mark of what is committed is written by itself: longer than between two writes of one
/// client, and short, because a process that died before knows less of its own cluster when it starts.
const QUIET: Duration = Duration::from_millis(50);

/// A group takes no further submit beyond this: some milliseconds of writing, so that the first of it does not wait long.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

thread_local! {
    static WRITER: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller runs on a writer thread, that is, in a callback.
pub(crate) fn is_this_thread() -> bool {
    WRITER.get()
}

/// What the thread knows of the disk.
pub(crate) struct OnDisk {
    pub(crate) mark: AckedMark,
    /// The number of the last group of metadata.
    pub(crate) group: u64,
    /// Where the chain of records ends.
    pub(crate) end: End,
    /// The highest purged index that was written.
    pub(crate) purged: Option<u64>,
}

/// The thread's own state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    log: Arc<SledLog>,
    on_disk: OnDisk,
    /// Groups since metadata was written; the first of a process writes it.
    appends: u32,
    /// Whether items below the purge marker are left to delete.
    purging: Purging,
    /// The folder stays locked while this thread may write, also when the engine was dropped in a callback.
    _folder: DataFolder,
}

/// What there is to do next.
enum Next {
    Group(Group),
    /// Nothing is queued and items wait to be deleted.
    Purge,
    End,
}

/// What is written, synced and called back together.
struct Group {
    jobs: Vec<Job>,
    metadata: Metadata,
    /// A mark of what is committed, which speaks of nothing that comes later.
    committed: Option<LogOp>,
}

/// What becomes of the metadata with a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Metadata {
    Written,
    /// It stays as it was: the group has appended entries only.
    Left,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, log: Arc<SledLog>, on_disk: OnDisk, folder: DataFolder) -> Writer {
        // A process that died may have left items below its marker.
        let purging = if on_disk.purged.is_some() { Purging::More } else { Purging::Finished };
        Writer { shared, log, on_disk, appends: APPENDS_BETWEEN, purging, _folder: folder }
    }

    pub(crate) fn run(mut self) {
        WRITER.set(true);
        loop {
            match self.next() {
                Next::End => return,
                Next::Purge => self.purge(),
                Next::Group(group) => self.group(group),
            }
        }
    }

    fn next(&self) -> Next {
        let mut front = self.shared.lock();
        loop {
            if !front.queue.is_empty() {
                break;
            }
            if front.life == Life::Closing {
                if front.failure.is_none() && front.committed.is_some() {
                    break;
                }
                return Next::End;
            }
            if self.purging == Purging::More && front.failure.is_none() {
                return Next::Purge;
            }
            let (woken, waited) = self.shared.work.wait_timeout(front, QUIET).unwrap_or_else(PoisonError::into_inner);
            front = woken;
            if !waited.timed_out() || !front.queue.is_empty() || front.life == Life::Closing {
                continue;
            }
            if front.committed.is_some() && front.failure.is_none() {
                break;
            }
            front.writer_sleeps = true;
            front = self.shared.work.wait(front).unwrap_or_else(PoisonError::into_inner);
            front.writer_sleeps = false;
        }
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while let Some(job) = front.queue.pop_front() {
            bytes += job.bytes;
            jobs.push(job);
            if bytes >= GROUP_BYTES {
                break;
            }
        }
        front.queued_bytes -= bytes;
        self.shared.metrics.queue_bytes.set(front.queued_bytes);
        let appends = !jobs.is_empty() && jobs.iter().flat_map(|job| &job.ops).all(is_append);
        let metadata = if appends && self.appends < APPENDS_BETWEEN { Metadata::Left } else { Metadata::Written };
        // Not before the entries that it speaks of.
        let goes_along = metadata == Metadata::Written && front.queue.is_empty();
        let committed = if goes_along { front.committed.take() } else { None };
        drop(front);
        self.shared.room.notify_all();
        let committed = committed.map(|bytes| LogOp::Put { slot: MetaSlot::Committed, bytes });
        Next::Group(Group { jobs, metadata, committed })
    }

    fn group(&mut self, mut group: Group) {
        let failure = self.shared.lock().failure.clone();
        let outcome = match failure {
            Some(failure) => Err(failure),
            None => self.write(&group),
        };
        if planted::is(Bug::AckBeforeSync) {
            call_back(&mut group.jobs, &outcome);
        }
        let outcome = outcome.and_then(|()| self.sync());
        match &outcome {
            Ok(()) => {
                if let Some(last) = group.jobs.last() {
                    self.shared.lock().synced(last.submit);
                }
            }
            Err(error) => self.fail(error),
        }
        call_back(&mut group.jobs, &outcome);
        if outcome.is_ok() && self.purging == Purging::More {
            self.purge();
        }
    }

    fn write(&mut self, group: &Group) -> Result<(), StorageError> {
        let free_bytes = disk_space::free_bytes(&self.shared.path)
            .map_err(|error| StorageError::Failed { why: format!("asking for free space: {error}") })?;
        if free_bytes < self.shared.options.refuse_bytes {
            return Err(StorageError::DiskFull { free_bytes });
        }
        let began = Stopwatch::start();
        let Group { jobs, metadata, committed } = group;
        let number = (*metadata == Metadata::Written).then_some(self.on_disk.group + 1);
        let (mut purged, mut purging) = (self.on_disk.purged, self.purging);
        let ops = jobs.iter().flat_map(|job| &job.ops).chain(committed).filter(|op| match op {
            LogOp::Purge { up_to, .. } => {
                let newer = purged.is_none_or(|purged| purged < *up_to);
                if newer {
                    purged = Some(*up_to);
                    purging = Purging::More;
                }
                newer
            }
            LogOp::Put { slot: MetaSlot::Vote, .. } if planted::is(Bug::ForgetVote) => false,
            LogOp::Append { .. } | LogOp::TruncateAfter { .. } | LogOp::Put { .. } => true,
        });
        self.log.write(ops, number, &mut self.on_disk.end)?;
        (self.on_disk.purged, self.purging) = (purged, purging);
        (self.on_disk.group, self.appends) = match number {
            Some(number) => (number, 0),
            None => (self.on_disk.group, self.appends + 1),
        };
        self.log.flush()?;
        self.shared.metrics.write.observe(began.took());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let began = Stopwatch::start();
        match self.log.sync() {
            Err(_) if planted::is(Bug::GoOnAfterFailedSync) => self.log.sync()?,
            synced => synced?,
        }
        self.shared.metrics.sync.observe(began.took());
        let acked = Acked { group: self.on_disk.group, end: self.on_disk.end };
        self.on_disk.mark.set(acked).map_err(|error| StorageError::Failed {
            why: format!("writing the mark of what was acknowledged: {error}"),
        })
    }

    /// Deletes some of what was purged; its marker is durable, for this runs only after the group that brought it.
    fn purge(&mut self) {
        let Some(purged) = self.on_disk.purged else { return };
        match self.log.purge_some(purged + 1) {
            Ok(purging) => self.purging = purging,
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&self, error: &StorageError) {
        let mut front = self.shared.lock();
        if front.failure.is_none() {
            tracing::error!(%error, "the log has failed; nothing more is written");
            front.failure = Some(error.clone());
        }
        drop(front);
        self.shared.room.notify_all();
    }
}

fn is_append(op: &LogOp) -> bool {
    matches!(op, LogOp::Append { .. })
}

fn call_back(jobs: &mut [Job], outcome: &Result<(), StorageError>) {
    for done in jobs.iter_mut().filter_map(|job| job.done.take()) {
        done(outcome.clone());
    }
}
