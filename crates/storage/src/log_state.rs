//! What stands in a log: the answer of [`crate::LogEngine::state`], and the rules by which operations change it.
//! Pure: both engines step it, so that they cannot disagree about what a log may do.

use bytes::Bytes;

use crate::{LogOp, MAX_META_BYTES, MAX_RECORD_BYTES, MetaSlot, StorageError};

/// A log's bounds and its metadata.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogState {
    /// The lowest index that is held; on an empty log the lowest that may be appended (0, or one above what was purged).
    pub first: u64,
    /// The highest index that is held; `None` on an empty log (Raft's first index is 0, so 0 cannot mean "empty").
    pub last: Option<u64>,
    /// The highest purged index with its marker.
    pub purged: Option<(u64, Bytes)>,
    /// The slot [`crate::MetaSlot::Vote`].
    pub vote: Option<Bytes>,
    /// The slot [`crate::MetaSlot::Committed`].
    pub committed: Option<Bytes>,
    /// The slot [`crate::MetaSlot::Identity`].
    pub identity: Option<Bytes>,
}

impl LogState {
    /// One above the last index that is held or was purged: where the next entry goes.
    pub fn next(&self) -> u64 {
        self.last.map_or(self.first, |last| last + 1)
    }

    /// Takes one operation into account, or says which rule it breaks and changes nothing.
    pub(crate) fn step(&mut self, op: &LogOp) -> Result<(), StorageError> {
        match op {
            LogOp::Append { index, bytes } => self.append(*index, bytes.len())?,
            LogOp::TruncateAfter { index } => self.truncate_after(*index)?,
            LogOp::Purge { up_to, marker } => self.purge(*up_to, marker)?,
            LogOp::Put { slot, bytes } => {
                meta_fits(bytes)?;
                *self.slot_mut(*slot) = Some(bytes.clone());
            }
        }
        self.check_invariants();
        Ok(())
    }

    /// The slot, to be filled.
    pub(crate) fn slot_mut(&mut self, slot: MetaSlot) -> &mut Option<Bytes> {
        match slot {
            MetaSlot::Vote => &mut self.vote,
            MetaSlot::Committed => &mut self.committed,
            MetaSlot::Identity => &mut self.identity,
        }
    }

    fn append(&mut self, index: u64, length: usize) -> Result<(), StorageError> {
        if length > MAX_RECORD_BYTES {
            return misused(format!("entry {index} has {length} bytes, the limit is {MAX_RECORD_BYTES}"));
        }
        match (self.last, &self.purged) {
            // A log that holds nothing and forgot nothing may begin anywhere.
            (None, None) => self.first = index,
            (last, _) => {
                let next = self.next();
                if index != next {
                    return misused(format!("entry {index} appended where {next} comes next (last is {last:?})"));
                }
            }
        }
        self.last = Some(index);
        Ok(())
    }

    fn truncate_after(&mut self, index: Option<u64>) -> Result<(), StorageError> {
        if let (Some((purged, _)), kept) = (&self.purged, index)
            && kept.is_none_or(|kept| kept < *purged)
        {
            return misused(format!("truncation after {index:?}, below the purged index {purged}"));
        }
        match index {
            Some(kept) if self.last.is_none_or(|last| kept >= last) => {}
            Some(kept) if kept >= self.first => self.last = Some(kept),
            Some(_) | None => {
                self.last = None;
                self.first = self.purged.as_ref().map_or(0, |(purged, _)| purged + 1);
            }
        }
        Ok(())
    }

    fn purge(&mut self, up_to: u64, marker: &Bytes) -> Result<(), StorageError> {
        meta_fits(marker)?;
        if self.purged.as_ref().is_some_and(|(purged, _)| *purged >= up_to) {
            return Ok(());
        }
        if self.last.is_some() && self.first > up_to + 1 {
            return misused(format!("purge up to {up_to}, below the first entry {}", self.first));
        }
        self.purged = Some((up_to, marker.clone()));
        self.first = up_to + 1;
        self.last = self.last.filter(|last| *last > up_to);
        Ok(())
    }

    /// What every reachable state keeps.
    pub(crate) fn check_invariants(&self) {
        assert!(self.last.is_none_or(|last| last >= self.first), "a log that is not empty begins before it ends");
        if let Some((purged, _)) = &self.purged {
            assert_eq!(self.first, purged + 1, "a purged log begins right above what was purged");
        }
    }
}

fn meta_fits(bytes: &Bytes) -> Result<(), StorageError> {
    if bytes.len() > MAX_META_BYTES {
        return misused(format!("metadata of {} bytes, the limit is {MAX_META_BYTES}", bytes.len()));
    }
    Ok(())
}

fn misused<T>(what: String) -> Result<T, StorageError> {
    Err(StorageError::Misused { what })
}
