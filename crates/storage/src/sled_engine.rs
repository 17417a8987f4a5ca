//! The production engine: sled behind one writer thread, with the youngest entries in memory.
//!
//! Who does what: callers change `Front` under its lock, briefly and without I/O; the writer thread alone writes to sled
//! (see `sled_writer`); reads of older entries go to sled from the caller's thread, without the lock. No callback is ever
//! called under the lock. It keeps true: what `state` and `read` show is durable or on its way in order, and `Ok` reaches
//! a callback only after the sync.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::sled_log::SledLog;
use crate::sled_open::{self, Opened};
use crate::sled_writer::{self, OnDisk, Writer};
use crate::tail::Tail;
use crate::{
    DataFolder, Done, EngineHealth, FullState, LogEngine, LogMetrics, LogOp, LogState, MetaSlot, OpenError,
    StorageError, disk_space,
};

/// Durable entries that stay in memory for followers that keep up: seconds of traffic at full speed.
const TAIL_BYTES: usize = 16 * 1024 * 1024;

/// What may wait for the writer before `submit` blocks: some groups, so that a slow sync does not stop the caller, and far
/// below the memory of a small machine.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// What an operation counts beside its bytes.
const OP_BYTES: usize = 64;

/// How a sled engine is opened.
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// sled's page cache. Entries that followers want are mostly in our own memory, so it may be small.
    pub cache_bytes: u64,
    /// Below this much free space the disk counts as full in health, while Raft's own writes are still taken.
    pub reserve_bytes: u64,
    /// Below this much nothing is written any more: what is left lets a restart open the log (sled writes when it
    /// recovers) and an operator work.
    pub refuse_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> SledOptions {
        SledOptions { cache_bytes: 32 * 1024 * 1024, reserve_bytes: 64 * 1024 * 1024, refuse_bytes: 16 * 1024 * 1024 }
    }
}

/// The log of one data folder. Dropping it writes what is queued, ends the writer thread and closes sled. One whose disk has failed is
/// not closed, and its folder stays in use until the process ends.
pub struct SledEngine {
    shared: Arc<Shared>,
    /// `None` only while dropping.
    log: Option<Arc<SledLog>>,
    writer: Option<JoinHandle<()>>,
    /// The last to go: the folder stays locked until sled is closed.
    folder: DataFolder,
}

/// What callers and the writer thread share.
pub(crate) struct Shared {
    front: Mutex<Front>,
    /// The writer waits here for work.
    pub(crate) work: Condvar,
    /// Callers wait here for room in the queue.
    pub(crate) room: Condvar,
    pub(crate) options: SledOptions,
    pub(crate) path: PathBuf,
    pub(crate) metrics: Arc<LogMetrics>,
}

/// What callers see, and what waits for the writer.
pub(crate) struct Front {
    pub(crate) state: LogState,
    pub(crate) tail: Tail,
    pub(crate) queue: VecDeque<Job>,
    pub(crate) queued_bytes: usize,
    /// The newest mark of what is committed that is not written yet. Nobody waits for it, so it is no reason for a sync while
    /// others write.
    pub(crate) committed: Option<Bytes>,
    /// The writer waits for work without a limit.
    pub(crate) writer_sleeps: bool,
    /// Submits so far: each job's number.
    submits: u64,
    /// Raised by each truncation, so that a read that went to the disk meanwhile looks again.
    truncations: u64,
    /// The first failure. Nothing is taken after it.
    pub(crate) failure: Option<StorageError>,
    pub(crate) life: Life,
}

/// Whether the engine is being dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    Open,
    Closing,
}

/// One submit.
pub(crate) struct Job {
    pub(crate) ops: Vec<LogOp>,
    pub(crate) done: Option<Done>,
    pub(crate) bytes: usize,
    pub(crate) submit: u64,
}

impl SledEngine {
    /// Opens the log of `folder`: checks every record, then makes durable what it found. Everything in
    /// [`LogEngine::state`] is durable when this returns. Blocks on the disk.
    pub fn open(folder: &DataFolder, options: SledOptions) -> Result<SledEngine, OpenError> {
        let Opened { log, state, mark, group, end } = sled_open::open(folder, options.cache_bytes)?;
        let path = log.path.clone();
        let log = Arc::new(log);
        let purged = state.purged.as_ref().map(|(purged, _)| *purged);
        let front = Front {
            state,
            tail: Tail::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            committed: None,
            writer_sleeps: false,
            submits: 0,
            truncations: 0,
            failure: None,
            life: Life::Open,
        };
        let shared = Arc::new(Shared {
            front: Mutex::new(front),
            work: Condvar::new(),
            room: Condvar::new(),
            options,
            path,
            metrics: Arc::default(),
        });
        let on_disk = OnDisk { mark, group, end, purged };
        let writer = Writer::new(Arc::clone(&shared), Arc::clone(&log), on_disk, folder.clone());
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(palisade_planted::carried(move || writer.run()))
            .map_err(|source| OpenError::Io {
                action: "starting the writer of",
                path: folder.path().to_owned(),
                source,
            })?;
        Ok(SledEngine { shared, log: Some(log), writer: Some(thread), folder: folder.clone() })
    }

    fn log(&self) -> &SledLog {
        self.log.as_ref().expect("the log is there until the engine is dropped")
    }

    /// What of a read can be answered from memory, and what the disk has to add.
    fn look(&self, from: u64, to: u64, max_bytes: usize) -> Look {
        let front = self.shared.lock();
        let Some(last) = front.state.last else { return Look::default() };
        let (from, to) = (from.max(front.state.first), to.min(last + 1));
        let disk_to = front.tail.first().unwrap_or(to).min(to);
        let mut memory = Vec::new();
        let mut size = 0;
        for (index, bytes) in front.tail.range(from, to) {
            size += bytes.len();
            if !memory.is_empty() && size > max_bytes {
                break;
            }
            memory.push((index, bytes.clone()));
        }
        Look { from, disk_to, memory, truncations: front.truncations }
    }

    /// Whether nothing that a look saw has been truncated or purged since.
    fn still_holds(&self, look: &Look) -> bool {
        let front = self.shared.lock();
        front.truncations == look.truncations && front.state.first <= look.from
    }
}

/// A read's plan.
#[derive(Default)]
struct Look {
    from: u64,
    /// `from..disk_to` lies on the disk only.
    disk_to: u64,
    memory: Vec<(u64, Bytes)>,
    truncations: u64,
}

impl LogEngine for SledEngine {
    fn state(&self) -> LogState {
        self.shared.lock().state.clone()
    }

    fn read(&self, from: u64, to_exclusive: u64, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, StorageError> {
        loop {
            let look = self.look(from, to_exclusive, max_bytes);
            if look.from >= look.disk_to {
                return Ok(look.memory);
            }
            let found = self.log().read(look.from, look.disk_to, max_bytes);
            // Each turn of this loop needs a truncation or purge of its own; both are rare.
            if self.still_holds(&look) {
                return found.and_then(|found| join(found, look, max_bytes));
            }
        }
    }

    fn submit(&self, ops: Vec<LogOp>, done: Option<Done>) {
        if let Err((error, Some(done))) = self.shared.enqueue(ops, done) {
            done(Err(error));
        }
    }

    fn health(&self) -> EngineHealth {
        let failure = self.shared.lock().failure.clone();
        let reserve_bytes = self.shared.options.reserve_bytes;
        match (failure, disk_space::free_bytes(&self.shared.path)) {
            (Some(StorageError::DiskFull { free_bytes }), probed) => {
                let free_bytes = probed.unwrap_or(free_bytes);
                EngineHealth::DiskFull { free_bytes, reserve_bytes, state: FullState::WritesRefused }
            }
            (Some(failure), _) => EngineHealth::Failed { why: failure.to_string() },
            (None, Ok(free_bytes)) if free_bytes < reserve_bytes => {
                EngineHealth::DiskFull { free_bytes, reserve_bytes, state: FullState::ReserveReached }
            }
            (None, Ok(_)) => EngineHealth::Ok,
            (None, Err(error)) => {
                EngineHealth::Failed { why: format!("asking {} for free space: {error}", self.shared.path.display()) }
            }
        }
    }

    fn metrics(&self) -> Option<Arc<LogMetrics>> {
        Some(Arc::clone(&self.shared.metrics))
    }
}

impl Drop for SledEngine {
    fn drop(&mut self) {
        let failed = {
            let mut front = self.shared.lock();
            front.life = Life::Closing;
            matches!(front.failure, Some(StorageError::Failed { .. }))
        };
        if failed {
            // Closing sled writes, and panics where that fails. What is on the disk is not known, and nothing new is to be added: sled
            // and the locks stay until the process ends. (Sled's own thread may write again what it was given before.)
            std::mem::forget((self.log.clone(), self.folder.clone()));
        }
        self.shared.work.notify_all();
        if let Some(writer) = self.writer.take() {
            // A callback that holds the last handle drops the engine on the writer's own thread: it ends by itself then.
            if writer.thread().id() != std::thread::current().id() && writer.join().is_err() {
                tracing::error!("the log's writer thread panicked");
            }
        }
        let log = self.log.take();
        if catch_unwind(AssertUnwindSafe(|| drop(log))).is_err() {
            tracing::error!("sled panicked while closing");
        }
    }
}

impl Shared {
    /// The one way to the front.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Front> {
        // Nothing panics while holding it but broken invariants; those have been told, and readers may go on.
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a submit, or gives its callback back with the reason.
    fn enqueue(&self, ops: Vec<LogOp>, done: Option<Done>) -> Result<(), (StorageError, Option<Done>)> {
        let bytes = ops.iter().map(weight).sum();
        let mut front = self.lock();
        // A callback may submit on the writer's own thread, where waiting for the writer would be for ever.
        if front.queued_bytes > QUEUE_BYTES {
            self.metrics.waits.inc();
        }
        while front.queued_bytes > QUEUE_BYTES && front.failure.is_none() && !sled_writer::is_this_thread() {
            front = self.room.wait(front).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(failure) = &front.failure {
            return Err((failure.clone(), done));
        }
        if let Err(error) = front.step(&ops) {
            tracing::error!(%error, "the log refuses an operation and stops");
            front.failure = Some(error.clone());
            return Err((error, done));
        }
        if let ([LogOp::Put { slot: MetaSlot::Committed, bytes }], None) = (&ops[..], &done) {
            front.committed = Some(bytes.clone());
            if front.writer_sleeps {
                self.work.notify_one();
            }
            return Ok(());
        }
        let submit = front.submits;
        front.queued_bytes += bytes;
        self.metrics.submitted(bytes, front.queued_bytes);
        front.queue.push_back(Job { ops, done, bytes, submit });
        drop(front);
        self.work.notify_one();
        Ok(())
    }
}

impl Front {
    /// Makes a submit visible, all of it or none.
    fn step(&mut self, ops: &[LogOp]) -> Result<(), StorageError> {
        let mut state = self.state.clone();
        for op in ops {
            state.step(op)?;
        }
        self.submits += 1;
        for op in ops {
            self.state.step(op).expect("the same operations were taken by the copy");
            match op {
                LogOp::Append { index, bytes } => self.tail.push(*index, bytes.clone(), self.submits),
                LogOp::TruncateAfter { .. } => {
                    self.truncations += 1;
                    self.tail.keep(self.state.first, self.state.last);
                }
                LogOp::Purge { .. } => self.tail.keep(self.state.first, self.state.last),
                LogOp::Put { .. } => {}
            }
        }
        assert_eq!(self.state, state, "stepping is a function of the operations");
        Ok(())
    }

    /// Forgets durable entries that memory has no room for.
    pub(crate) fn synced(&mut self, submit: u64) {
        self.tail.evict(TAIL_BYTES, submit);
    }
}

/// What came from the disk, then what was in memory, within the limit. The disk must have given all it was asked for, or
/// have stopped at the limit.
fn join(mut found: Vec<(u64, Bytes)>, look: Look, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, StorageError> {
    let next = found.last().map_or(look.from, |(index, _)| index + 1);
    if found.is_empty() {
        return Err(StorageError::Corrupt { what: format!("entry {next}: it is missing") });
    }
    if next < look.disk_to {
        return Ok(found);
    }
    let mut size: usize = found.iter().map(|(_, bytes)| bytes.len()).sum();
    for (index, bytes) in look.memory {
        size += bytes.len();
        if size > max_bytes {
            break;
        }
        found.push((index, bytes));
    }
    Ok(found)
}

fn weight(op: &LogOp) -> usize {
    OP_BYTES
        + match op {
            LogOp::Append { bytes, .. } | LogOp::Put { bytes, .. } => bytes.len(),
            LogOp::Purge { marker, .. } => marker.len(),
            LogOp::TruncateAfter { .. } => 0,
        }
}
