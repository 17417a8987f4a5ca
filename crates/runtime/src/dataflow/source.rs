//! The source operator: the words of its splits, one after the other.
//!
//! Pure: it says what to read, takes the bytes, gives out words, and can say at any moment where it stands. It keeps true that
//! a source restored from a position gives out exactly the words that the first one had not.

use serde::{Deserialize, Serialize};

use super::split::{Split, SplitCursor, SplitPosition};
use super::words::WordTooLong;

/// Where a source stands; its state in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePosition {
    /// Index into the subtask's own splits; their number when all are read.
    pub split: u64,
    /// Where in that split; `None` at its beginning.
    pub within: Option<SplitPosition>,
}

/// What to read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Index into the job's list of files.
    pub file: usize,
    /// First byte.
    pub offset: u64,
    /// How many bytes; at least 1.
    pub length: u64,
}

/// Reads the words of all splits of a subtask.
#[derive(Clone, Debug)]
pub struct Source {
    splits: Vec<Split>,
    /// Index of the split in progress.
    current: usize,
    /// `None` when all splits are read.
    cursor: Option<SplitCursor>,
}

impl Source {
    /// At the beginning, or where a checkpoint stood.
    pub fn new(splits: Vec<Split>, position: Option<SourcePosition>) -> Source {
        let current = position.map_or(0, |position| usize::try_from(position.split).unwrap_or(usize::MAX));
        let cursor = splits.get(current).map(|split| match position.and_then(|position| position.within) {
            Some(within) => SplitCursor::resume(*split, within),
            None => SplitCursor::new(*split),
        });
        Source { splits, current, cursor }
    }

    /// Where it stands.
    pub fn position(&self) -> SourcePosition {
        SourcePosition {
            split: u64::try_from(self.current).expect("a usize fits in a u64"),
            within: self.cursor.as_ref().map(SplitCursor::position),
        }
    }

    /// What to read next; `None` when all is read.
    pub fn wants(&mut self, at_most: u64) -> Option<Read> {
        loop {
            let cursor = self.cursor.as_ref()?;
            if let Some((file, offset, length)) = cursor.wants(at_most) {
                return Some(Read { file, offset, length });
            }
            self.current += 1;
            self.cursor = self.splits.get(self.current).map(|split| SplitCursor::new(*split));
        }
    }

    /// Takes the bytes that it wanted (or the first ones of them) and gives out the words they complete.
    pub fn feed(&mut self, bytes: &[u8], emit: impl FnMut(&[u8])) -> Result<(), WordTooLong> {
        match &mut self.cursor {
            Some(cursor) => cursor.feed(bytes, emit),
            None => Ok(()),
        }
    }
}
