//! openraft's view of the log: our messages on a [`LogEngine`].
//!
//! Keeps true: everything goes through the engine's one ordered queue, so nothing is durable before what was submitted
//! before it; a vote is on disk before [`RaftLogStorage::save_vote`] returns; an append is called flushed by the engine
//! after its sync and never by us. It holds no state of its own.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use palisade_storage::{EngineHealth, LogEngine, LogOp, MetaSlot, StorageError};
use palisade_wire::replica::v1 as wire;
use tokio::sync::oneshot;

use crate::codec;
use crate::types::{Entry, LogId, Types, Vote};

/// Bytes that are read at once for replication: a message of that size is well below what a peer accepts, and small
/// enough to be one step of a catch-up.
const READ_BYTES: usize = 2 << 20;

/// The log on an engine. Clones read and write the same log.
pub(crate) struct LogStore<R> {
    engine: Arc<dyn LogEngine>,
    types: PhantomData<fn() -> R>,
}

impl<R> Clone for LogStore<R> {
    fn clone(&self) -> Self {
        LogStore { engine: Arc::clone(&self.engine), types: PhantomData }
    }
}

impl<R> LogStore<R> {
    pub(crate) fn new(engine: Arc<dyn LogEngine>) -> LogStore<R> {
        LogStore { engine, types: PhantomData }
    }

    fn read(&self, from: u64, to_exclusive: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let records = self.engine.read(from, to_exclusive, max_bytes).map_err(io_error)?;
        records.into_iter().map(|(index, bytes)| decode(index, bytes)).collect()
    }

    fn last_log_id(&self, last: u64) -> io::Result<LogId> {
        let entries = self.read(last, last + 1, READ_BYTES)?;
        let entry = entries.first().ok_or_else(|| invalid(format!("log entry {last} is missing")))?;
        Ok(entry.log_id)
    }
}

fn decode(index: u64, bytes: Bytes) -> io::Result<Entry> {
    let entry = codec::entry_from(codec::from_disk("log entry", bytes)?)?;
    if entry.log_id.index != index {
        return Err(invalid(format!("log entry {index} says that it is {}", entry.log_id.index)));
    }
    Ok(entry)
}

/// The first index of a range and the one behind its last.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let to_exclusive = match range.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (from, to_exclusive)
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

pub(crate) fn io_error(error: StorageError) -> io::Error {
    let kind = match &error {
        StorageError::DiskFull { .. } => io::ErrorKind::StorageFull,
        StorageError::Corrupt { .. } => io::ErrorKind::InvalidData,
        StorageError::Misused { .. } | StorageError::Failed { .. } | StorageError::Closed => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl<R: Send + Sync + Debug + 'static> RaftLogReader<Types<R>> for LogStore<R> {
    async fn try_get_log_entries<B>(&mut self, range: B) -> io::Result<Vec<Entry>>
    where
        B: RangeBounds<u64> + Clone + Debug + Send,
    {
        let state = self.engine.state();
        let Some(last) = state.last else { return Ok(Vec::new()) };
        let (from, to_exclusive) = bounds(&range);
        let (mut next, to_exclusive) = (from.max(state.first), to_exclusive.min(last + 1));
        let mut entries = Vec::new();
        while next < to_exclusive {
            let more = self.read(next, to_exclusive, READ_BYTES)?;
            match more.last() {
                Some(read) => next = read.log_id.index + 1,
                // Truncated or purged meanwhile: the rest is not there any more.
                None => break,
            }
            entries.extend(more);
        }
        Ok(entries)
    }

    /// What the machine applies is read here, and openraft takes all of the range for applied however early the stream
    /// ends. An engine that has failed may hold less than the others have committed: then the stream ends with an error,
    /// which ends replication. Reads piece by piece: a range may be larger than memory.
    async fn entries_stream<B>(&mut self, range: B) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        B: RangeBounds<u64> + Clone + Debug + Send,
    {
        let log = self.clone();
        let (from, to_exclusive) = bounds(&range);
        stream::try_unfold((from, VecDeque::new()), move |(next, mut read)| {
            let log = log.clone();
            async move {
                if next >= to_exclusive {
                    return Ok(None);
                }
                if read.is_empty() {
                    read = log.read(next, to_exclusive, READ_BYTES)?.into();
                }
                match read.pop_front() {
                    Some(entry) if entry.log_id.index == next => Ok(Some((entry, (next + 1, read)))),
                    _ if log.engine.health() == EngineHealth::Ok => Ok(None),
                    _ => Err(invalid(format!("log entry {next} is missing: {}", log.engine.health()))),
                }
            }
        })
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        match self.engine.state().vote {
            None => Ok(None),
            Some(bytes) => Ok(Some(codec::vote_from("vote", Some(codec::from_disk("vote", bytes)?))?)),
        }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES)
    }
}

impl<R: Send + Sync + Debug + 'static> RaftLogStorage<Types<R>> for LogStore<R> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types<R>>> {
        let state = self.engine.state();
        let purged = state
            .purged
            .map(|(_, marker)| codec::log_id_from("purge marker", codec::from_disk("purge marker", marker)?))
            .transpose()?;
        let last = state.last.map(|last| self.last_log_id(last)).transpose()?;
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, saved) = oneshot::channel();
        let put = LogOp::Put { slot: MetaSlot::Vote, bytes: codec::to_disk(&codec::vote(vote)) };
        self.engine.submit(vec![put], Some(Box::new(move |outcome| drop(done.send(outcome)))));
        match saved.await {
            Ok(outcome) => outcome.map_err(io_error),
            // The engine went away with the callback: whether the vote is on disk is unknown, so it does not count.
            Err(_) => Err(io_error(StorageError::Closed)),
        }
    }

    /// Not waited for: an older value only means that a restart applies less before it hears from the others.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let bytes = codec::to_disk(&wire::Committed { log_id: committed.map(codec::log_id) });
        self.engine.submit(vec![LogOp::Put { slot: MetaSlot::Committed, bytes }], None);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let Some(bytes) = self.engine.state().committed else { return Ok(None) };
        let committed: wire::Committed = codec::from_disk("commit mark", bytes)?;
        Ok(codec::log_id_option("commit mark", committed.log_id)?)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<R>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let encode =
            |entry: Entry| LogOp::Append { index: entry.log_id.index, bytes: codec::to_disk(&codec::entry(&entry)) };
        let ops = entries.into_iter().map(encode).collect();
        // The engine's thread calls it; it only puts the outcome into a channel of openraft's.
        let done = move |outcome: Result<(), StorageError>| callback.io_completed(outcome.map_err(io_error));
        self.engine.submit(ops, Some(Box::new(done)));
        Ok(())
    }

    /// Not waited for: an append that follows is ordered behind it.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.engine.submit(vec![LogOp::TruncateAfter { index: last_log_id.map(|id| id.index) }], None);
        Ok(())
    }

    /// Not waited for: entries that come back after a crash are covered by a durable snapshot, too.
    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let marker = codec::to_disk(&codec::log_id(log_id));
        self.engine.submit(vec![LogOp::Purge { up_to: log_id.index, marker }], None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use palisade_storage::{SimDisk, SimEngine};

    use super::*;
    use crate::types::{EntryPayload, LeaderId};

    fn entry(index: u64) -> LogOp {
        let log_id = LogId::new(LeaderId { term: 1, node_id: 1 }, index);
        let entry = Entry { log_id, payload: EntryPayload::Blank };
        LogOp::Append { index, bytes: codec::to_disk(&codec::entry(&entry)) }
    }

    async fn applied(log: &LogStore<()>, to_exclusive: u64) -> Vec<Result<u64, String>> {
        let mut log = log.clone();
        let entries = log.entries_stream(0..to_exclusive).await;
        entries.map(|entry| entry.map(|it| it.log_id.index).map_err(|error| error.to_string())).collect().await
    }

    /// Found by the simulation: a node whose disk had failed called an entry applied that it did not have.
    #[tokio::test]
    async fn what_a_failed_disk_did_not_take_is_not_applied() {
        let disk = SimDisk::new();
        let engine = Arc::new(SimEngine::open(&disk).unwrap());
        let log = LogStore::<()>::new(Arc::clone(&engine) as Arc<dyn LogEngine>);
        engine.submit(vec![entry(0), entry(1)], None);
        disk.sync();
        disk.fill();
        engine.submit(vec![entry(2)], None);
        assert_eq!(applied(&log, 2).await, [Ok(0), Ok(1)]);
        let short = applied(&log, 3).await;
        assert!(matches!(&short[..], [Ok(0), Ok(1), Err(why)] if why.contains("log entry 2 is missing")), "{short:?}");
    }
}
