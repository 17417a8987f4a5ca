//! The log and its metadata as they lie in sled: keys, items, batches, flush and sync. Called by the writer thread for
//! writes and by anyone for reads; it has no queue, no memory of what was submitted, and decides nothing.
//!
//! What it relies on in sled 0.34.7: a batch of one tree is recovered whole or not at all, and after a crash sled keeps a
//! prefix of what was written to all trees. What it does not rely on:
//! - sled's `flush`, which is `sync_file_range` on Linux and does not survive a power loss: hence [`SledLog::sync`];
//! - that sled notices damage: it takes the first bad checksum for the end of its log, and lets a page fall back to an
//!   older state alone: hence the chain of records, [`End`], and `AckedMark`.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use palisade_planted::{self as planted, Bug};
use sled::{Batch, Tree};

use crate::record::{self, Record};
use crate::{LogOp, MetaSlot, StorageError, disk_space};

/// A batch is cut at this size: it is in memory twice, and sled holds a process-wide lock while it applies one.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Items that one purge step deletes: a few milliseconds of work between two groups.
const PURGE_ITEMS: usize = 1024;

/// Keys of the tree `meta`.
pub(crate) const FORMAT_KEY: &[u8] = b"format";
pub(crate) const GROUP_KEY: &[u8] = b"group";
pub(crate) const PURGED_KEY: &[u8] = b"purged";
pub(crate) const END_KEY: &[u8] = b"end";
/// The number of the group that last removed records. Written with the lowered promise, before any is removed: what was
/// acknowledged before that group need not be the end of the log any more, also where a crash cut the group short.
pub(crate) const SHORTENED_KEY: &[u8] = b"shortened";

/// An index and the checksum of its record: the last one of the chain, `None` on an empty log.
///
/// Under `END_KEY`, in the other tree, it is a promise: the log holds at least this record, and the chain up to it. It is
/// raised, from time to time, after the entries were written and lowered before any is removed, so that it holds at every moment
/// of a crash.
/// sled recovers pages one by one; a damaged page of the log can fall back alone, and this is how that is seen.
pub(crate) type End = Option<(u64, u32)>;

/// The trees, and sled's data file for the real sync.
#[derive(Debug)]
pub(crate) struct SledLog {
    pub(crate) log: Tree,
    pub(crate) meta: Tree,
    pub(crate) db: sled::Db,
    /// A descriptor of our own: the kernel reports a failed write-back once to each open file, so sled's own background
    /// fsync cannot swallow an error that we then never see.
    pub(crate) data: File,
    pub(crate) path: PathBuf,
}

/// Whether a purge has more to delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purging {
    More,
    Finished,
}

impl SledLog {
    /// Writes operations in their order, in as few batches as that order allows.
    ///
    /// `Committed` goes last: several of them collapse into one, and it must not come before the entries it speaks of. A group
    /// without a number has appended entries only, and its metadata stays as it was.
    pub(crate) fn write<'a>(
        &self,
        ops: impl Iterator<Item = &'a LogOp>,
        group: Option<u64>,
        end: &mut End,
    ) -> Result<(), StorageError> {
        guarded(&self.path, || {
            let mut batch = LogBatch { log: self, group, batch: Batch::default(), bytes: 0, end };
            let mut committed = None;
            for op in ops {
                match op {
                    LogOp::Append { index, bytes } => batch.append(*index, bytes)?,
                    LogOp::TruncateAfter { index } => batch.truncate_after(*index)?,
                    LogOp::Purge { up_to, marker } => batch.purge(*up_to, marker)?,
                    LogOp::Put { slot: MetaSlot::Committed, bytes } => committed = Some(bytes),
                    LogOp::Put { slot, bytes } => {
                        batch.apply()?;
                        self.put_meta(slot_key(*slot), bytes)?;
                    }
                }
            }
            batch.apply()?;
            let Some(group) = group else { return Ok(()) };
            let mut last = Batch::default();
            if let Some(committed) = committed {
                insert(&mut last, slot_key(MetaSlot::Committed), committed);
            }
            insert(&mut last, GROUP_KEY, &group.to_be_bytes());
            insert(&mut last, END_KEY, &end_value(*end));
            self.meta.apply_batch(last)
        })
    }

    /// Hands everything written to the operating system: it survives the process from here on, not the machine.
    pub(crate) fn flush(&self) -> Result<(), StorageError> {
        guarded(&self.path, || self.db.flush().map(drop))
    }

    /// Makes everything flushed survive the machine.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        if planted::is(Bug::SkipDataSync) {
            return Ok(());
        }
        self.data.sync_data().map_err(|error| failed(&self.path, "fdatasync", &error))
    }

    /// Deletes some of the items below `first`. The marker that says so must be durable before.
    pub(crate) fn purge_some(&self, first: u64) -> Result<Purging, StorageError> {
        guarded(&self.path, || {
            let mut batch = Batch::default();
            let mut deleted = 0;
            for item in self.log.range(..record::key(first, 0)).keys().take(PURGE_ITEMS) {
                batch.remove(item?);
                deleted += 1;
            }
            if deleted > 0 {
                self.log.apply_batch(batch)?;
            }
            Ok(if deleted == PURGE_ITEMS { Purging::More } else { Purging::Finished })
        })
    }

    /// Entries of `from..to` as they lie on disk: contiguous from `from`, at least one if there is one.
    pub(crate) fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, StorageError> {
        let mut entries = Vec::new();
        let mut size = 0;
        self.scan(from, to, |index, record| {
            size += record.payload.len();
            if !entries.is_empty() && size > max_bytes {
                return Scan::Stop;
            }
            entries.push((index, record.payload));
            Scan::GoOn
        })?;
        Ok(entries)
    }

    /// Gives every record of `from..to`, checked and in order, and insists that there is no hole before or between them and
    /// that they are one chain.
    pub(crate) fn scan(
        &self,
        from: u64,
        to: u64,
        mut each: impl FnMut(u64, Record) -> Scan,
    ) -> Result<(), StorageError> {
        let mut next = from;
        let mut before = None;
        let mut parts = Parts::default();
        let mut finish = |index: u64, parts: &mut Parts| -> Result<Scan, StorageError> {
            if index != next {
                return Err(corrupt(format!("the log goes from entry {next} to {index}: entries are missing")));
            }
            next += 1;
            let record = record::decode(index, parts.take()).map_err(|why| corrupt(format!("entry {index}: {why}")))?;
            if before.replace(record.checksum).is_some_and(|before| before != record.before) {
                return Err(corrupt(format!(
                    "entry {index} was not written after the entry {} that is here",
                    index - 1
                )));
            }
            Ok(each(index, record))
        };
        let mut items = self.log.range(record::key(from, 0)..record::key(to, 0));
        let mut current = None;
        while let Some((key, value)) = guarded_read(&self.path, || items.next().transpose())? {
            let Some((index, part)) = record::parse_key(&key) else {
                return Err(corrupt(format!("the log has an item under the key {key:?}")));
            };
            if let Some(before) = current.filter(|before| *before != index)
                && finish(before, &mut parts)? == Scan::Stop
            {
                return Ok(());
            }
            current = Some(index);
            parts.add(index, part, &value)?;
        }
        match current {
            Some(last) => finish(last, &mut parts).map(drop),
            None => Ok(()),
        }
    }

    /// The lowest index at or above `from` that has an item.
    pub(crate) fn first_from(&self, from: u64) -> Result<Option<u64>, StorageError> {
        let found = guarded_read(&self.path, || self.log.range(record::key(from, 0)..).keys().next().transpose())?;
        let Some(key) = found else { return Ok(None) };
        match record::parse_key(&key) {
            Some((index, _)) => Ok(Some(index)),
            None => Err(corrupt(format!("the log has an item under the key {key:?}"))),
        }
    }

    /// Writes one metadata value, by itself.
    pub(crate) fn put_meta(&self, key: &[u8], value: &[u8]) -> sled::Result<()> {
        self.meta.insert(key, &meta_record(key, value)[..]).map(drop)
    }

    /// Reads one metadata value, checked.
    pub(crate) fn meta_value(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let Some(value) = guarded_read(&self.path, || self.meta.get(key))? else { return Ok(None) };
        record::decode(meta_index(key), Bytes::copy_from_slice(&value))
            .map(|record| Some(record.payload))
            .map_err(|why| corrupt(format!("metadata {}: {why}", String::from_utf8_lossy(key))))
    }
}

/// Whether a scan goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scan {
    GoOn,
    Stop,
}

/// The items of one record on their way to being whole.
#[derive(Default)]
struct Parts {
    bytes: BytesMut,
    next: u16,
}

impl Parts {
    fn add(&mut self, index: u64, part: u16, item: &[u8]) -> Result<(), StorageError> {
        if part != self.next {
            return Err(corrupt(format!("entry {index}: item {} is missing", self.next)));
        }
        self.next += 1;
        self.bytes.extend_from_slice(item);
        Ok(())
    }

    fn take(&mut self) -> Bytes {
        self.next = 0;
        self.bytes.split().freeze()
    }
}

/// Appends and truncations that go to the log tree together.
struct LogBatch<'a> {
    log: &'a SledLog,
    /// Of the group that is written; only one that appends and nothing else has none.
    group: Option<u64>,
    batch: Batch,
    bytes: usize,
    /// Where the chain ends once this batch is applied.
    end: &'a mut End,
}

impl LogBatch<'_> {
    fn append(&mut self, index: u64, payload: &[u8]) -> sled::Result<()> {
        // Cut between records only, so that a record is recovered whole or not at all.
        if self.bytes + payload.len() > BATCH_BYTES {
            self.apply()?;
        }
        let before = match *self.end {
            Some((last, checksum)) if last + 1 == index => checksum,
            Some(_) | None => record::NONE_BEFORE,
        };
        let record = record::encode(index, before, payload);
        for (part, item) in record::items(&record) {
            self.batch.insert(&record::key(index, part)[..], item);
        }
        self.bytes += record.len();
        *self.end = record::checksum_of(&record).map(|checksum| (index, checksum));
        Ok(())
    }

    /// The removals travel in one batch with the entries that replace what was removed; the promise is lowered before.
    fn truncate_after(&mut self, index: Option<u64>) -> sled::Result<()> {
        self.apply()?;
        if let (Some((last, _)), Some(kept)) = (*self.end, index)
            && kept >= last
        {
            return Ok(());
        }
        *self.end = match index {
            Some(kept) => {
                let first_item = self.log.log.get(record::key(kept, 0))?;
                first_item.and_then(|item| record::checksum_of(&item)).map(|checksum| (kept, checksum))
            }
            None => None,
        };
        self.shortened(Batch::default())?;
        let from = index.map_or(0, |index| index + 1);
        for key in self.log.log.range(record::key(from, 0)..).keys() {
            self.batch.remove(key?);
            self.bytes += 1;
        }
        Ok(())
    }

    /// The marker; what it speaks of is deleted later.
    fn purge(&mut self, up_to: u64, marker: &[u8]) -> sled::Result<()> {
        self.apply()?;
        *self.end = self.end.filter(|(last, _)| *last > up_to);
        let mut batch = Batch::default();
        insert(&mut batch, PURGED_KEY, &purged_value(up_to, marker));
        self.shortened(batch)
    }

    /// Lowers the promise of the log's end, with whatever else is to stand before records are removed.
    fn shortened(&self, mut batch: Batch) -> sled::Result<()> {
        let group = self.group.expect("a group that removes records has a number");
        insert(&mut batch, END_KEY, &end_value(*self.end));
        insert(&mut batch, SHORTENED_KEY, &group.to_be_bytes());
        self.log.meta.apply_batch(batch)
    }

    fn apply(&mut self) -> sled::Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        self.bytes = 0;
        self.log.log.apply_batch(std::mem::take(&mut self.batch))
    }
}

fn insert(batch: &mut Batch, key: &'static [u8], value: &[u8]) {
    batch.insert(key, &meta_record(key, value)[..]);
}

fn end_value(end: End) -> Vec<u8> {
    end.map_or(Vec::new(), |(index, checksum)| [&index.to_be_bytes()[..], &checksum.to_be_bytes()].concat())
}

/// The reverse of [`end_value`].
pub(crate) fn parse_end(value: &[u8]) -> Result<End, StorageError> {
    match (value.first_chunk::<8>(), value.last_chunk::<4>(), value.len()) {
        (_, _, 0) => Ok(None),
        (Some(index), Some(checksum), 12) => Ok(Some((u64::from_be_bytes(*index), u32::from_be_bytes(*checksum)))),
        (_, _, length) => Err(corrupt(format!("metadata end: it has {length} bytes"))),
    }
}

/// The key of a slot.
pub(crate) fn slot_key(slot: MetaSlot) -> &'static [u8] {
    match slot {
        MetaSlot::Vote => b"vote",
        MetaSlot::Committed => b"committed",
        MetaSlot::Identity => b"identity",
    }
}

/// The value of the purge marker.
fn purged_value(up_to: u64, marker: &[u8]) -> Vec<u8> {
    [&up_to.to_be_bytes()[..], marker].concat()
}

/// The reverse of [`purged_value`].
pub(crate) fn parse_purged(value: &Bytes) -> Result<(u64, Bytes), StorageError> {
    match value.split_first_chunk::<8>() {
        Some((up_to, _)) => Ok((u64::from_be_bytes(*up_to), value.slice(8..))),
        None => Err(corrupt("metadata purged: it ends early".to_owned())),
    }
}

/// A metadata record: one item; its key takes the place of the index under the checksum.
fn meta_record(key: &[u8], value: &[u8]) -> Bytes {
    let record = record::encode(meta_index(key), record::NONE_BEFORE, value);
    assert!(record.len() <= record::ITEM_BYTES, "MAX_META_BYTES was checked before");
    record
}

fn meta_index(key: &[u8]) -> u64 {
    u64::from(crc32fast::hash(key))
}

pub(crate) fn corrupt(what: String) -> StorageError {
    StorageError::Corrupt { what }
}

/// Runs a write on sled; its errors and its panics (it has many `unwrap`s) become ours.
fn guarded<T>(path: &Path, write: impl FnOnce() -> sled::Result<T>) -> Result<T, StorageError> {
    match catch_unwind(AssertUnwindSafe(write)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(failed(path, "writing", &error)),
        Ok(Err(error)) => Err(StorageError::Failed { why: format!("sled: {error}") }),
        Err(panic) => Err(StorageError::Failed { why: format!("sled panicked: {}", panic_text(&*panic)) }),
    }
}

/// Runs a read on sled; whatever it cannot read is corrupt.
fn guarded_read<T>(path: &Path, read: impl FnOnce() -> sled::Result<T>) -> Result<T, StorageError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        // A file that was cut short is damaged, not refused.
        Ok(Err(sled::Error::Io(error))) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(failed(path, "reading", &error))
        }
        Ok(Err(error)) => Err(corrupt(format!("{}: {error}", path.display()))),
        Err(panic) => Err(corrupt(format!("{}: sled panicked: {}", path.display(), panic_text(&*panic)))),
    }
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> StorageError {
    if disk_space::says_full(error) {
        return StorageError::DiskFull { free_bytes: disk_space::free_bytes(path).unwrap_or(0) };
    }
    StorageError::Failed { why: format!("{what} {}: {error}", path.display()) }
}

/// The words of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::sled_open::{self, Opened};
    use crate::{DataFolder, LogEngine, SledEngine, SledOptions};

    /// What is found where a process died after records were removed and before the rest of their group was written.
    fn cut_short(remove: impl FnOnce(&mut LogBatch<'_>) -> sled::Result<()>) -> Option<u64> {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), 7).unwrap();
        let engine = SledEngine::open(&folder, SledOptions::default()).unwrap();
        for index in 0..10 {
            let (done, written) = mpsc::channel();
            let append = LogOp::Append { index, bytes: Bytes::from_static(b"entry") };
            engine.submit(vec![append], Some(Box::new(move |outcome| done.send(outcome).unwrap())));
            written.recv().unwrap().unwrap();
        }
        drop(engine);
        let Opened { log, group, mut end, .. } = sled_open::open(&folder, 1 << 20).unwrap();
        let (group, batch) = (Some(group + 1), Batch::default());
        let mut batch = LogBatch { log: &log, group, batch, bytes: 0, end: &mut end };
        remove(&mut batch).and_then(|()| batch.apply()).unwrap();
        log.flush().unwrap();
        drop(log);
        SledEngine::open(&folder, SledOptions::default()).unwrap().state().last
    }

    #[test]
    fn a_group_that_was_cut_short_after_it_removed_records_is_no_lost_store() {
        assert_eq!(cut_short(|batch| batch.truncate_after(Some(4))), Some(4));
        assert_eq!(cut_short(|batch| batch.truncate_after(None)), None);
        assert_eq!(cut_short(|batch| batch.purge(9, b"marker")), None);
    }
}
