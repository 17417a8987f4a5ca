//! The seam between Raft's log and a disk. It does not know what an entry means; it keeps the order in which things were
//! submitted, and it keeps "done" and "on disk" the same thing.

use std::sync::Arc;

use bytes::Bytes;

use crate::{EngineHealth, LogMetrics, LogOp, LogState, StorageError};

/// Called exactly once with the fate of one [`LogEngine::submit`], unless the process dies first.
///
/// - `Ok` only after the `fdatasync` that covers every operation of that submit has returned.
/// - Called in the order of the submits, with no lock held: by the sled engine on its writer thread, by the simulated
///   engine on the thread that calls `SimDisk::sync`. It must not block (every later callback waits behind it); send on a
///   channel and return. It may call `submit`. It may be called before `submit` has returned.
/// - A refusal (the engine failed before, or the caller broke a rule) is told at once, on the caller's thread.
/// - An `Err` says "not known to be durable", never "surely not on disk". After the first `Err` everything later fails too.
pub type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// A durable Raft log with its few slots of metadata.
pub trait LogEngine: Send + Sync + 'static {
    /// What stands, including what was submitted and is not yet durable. At opening everything in it is durable.
    fn state(&self) -> LogState;

    /// Entries `from..to_exclusive` that exist, contiguous and ascending, from the first one asked for that exists.
    ///
    /// Sees every submit that returned before. Stops when the next entry would pass `max_bytes`, but always returns at
    /// least one entry if there is one in the range. Indexes below [`LogState::first`] or above [`LogState::last`] are
    /// simply not there: the answer is shorter or empty, not an error. May touch the disk (older entries), and goes on
    /// working after the disk is full.
    fn read(&self, from: u64, to_exclusive: u64, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, StorageError>;

    /// Takes operations in order and returns at once; all of one submit become durable together, earlier submits first.
    ///
    /// Its effects are visible to [`LogEngine::read`] and [`LogEngine::state`] when it returns. `done` is called later;
    /// without it an error still shows in [`LogEngine::health`] and in every later callback. An engine that has failed
    /// changes nothing and calls `done` with the error. An operation that breaks the log (a gap, an oversized record)
    /// fails the engine: only a wrong caller can submit one.
    ///
    /// A `MetaSlot::Committed` alone and without `done` only spares work at the next start: it reaches the disk with some later
    /// group, in a quiet moment, or when the engine is dropped.
    ///
    /// The queue is bounded in bytes. When it is full the sled engine *blocks* until one group has been synced: refusing
    /// would be fatal to Raft, which takes any storage error as the end, and a slow disk is not the end.
    fn submit(&self, ops: Vec<LogOp>, done: Option<Done>);

    /// Whether it can be written to, now. Asks the file system for its free space; cheap enough for each status request.
    fn health(&self) -> EngineHealth;

    /// What its writer counts, if it counts.
    fn metrics(&self) -> Option<Arc<LogMetrics>> {
        None
    }
}
