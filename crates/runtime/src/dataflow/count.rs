//! The count operator: word to number. Its snapshot is its whole state, in bytes of our own.
//!
//! It does not know about barriers: the task takes a snapshot when the aligner says so.

use std::collections::HashMap;

use thiserror::Error;

use super::batch::{self, BadBatch};
use super::varint;

/// First byte of a snapshot and of a result part.
const FORMAT: u8 = 1;

/// The bytes are not a snapshot of counts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("counts: {0}")]
pub struct BadCounts(&'static str);

/// How often each word was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Invariant: no zero.
    counts: HashMap<Box<[u8]>, u64>,
    /// The sum of all counts.
    total: u64,
}

impl Counts {
    /// Counts one word.
    pub fn add(&mut self, word: &[u8]) {
        self.add_many(word, 1);
    }

    /// Counts every record of a batch; returns how many there were.
    pub fn add_batch(&mut self, bytes: &[u8]) -> Result<u64, BadBatch> {
        batch::read_batch(bytes, |word| self.add(word))
    }

    /// The sum of all counts.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many different words there are.
    pub fn distinct(&self) -> u64 {
        u64::try_from(self.counts.len()).expect("a usize fits in a u64")
    }

    /// The counts in the order of the words' bytes.
    pub fn sorted(&self) -> Vec<(&[u8], u64)> {
        let mut all: Vec<(&[u8], u64)> = self.counts.iter().map(|(word, count)| (&**word, *count)).collect();
        all.sort_unstable();
        all
    }

    /// The state as bytes; the same state gives the same bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        varint::write(&mut bytes, self.distinct());
        for (word, count) in self.sorted() {
            varint::write(&mut bytes, u64::try_from(word.len()).expect("a usize fits in a u64"));
            bytes.extend_from_slice(word);
            varint::write(&mut bytes, count);
        }
        bytes
    }

    /// The state that a snapshot holds.
    pub fn restore(bytes: &[u8]) -> Result<Counts, BadCounts> {
        let mut counts = Counts::default();
        counts.merge_snapshot(bytes)?;
        Ok(counts)
    }

    /// Adds the counts of a snapshot; the parts of a result are put together this way. On an error some may be in.
    pub fn merge_snapshot(&mut self, bytes: &[u8]) -> Result<(), BadCounts> {
        let (format, mut rest) = bytes.split_first().ok_or(BadCounts("there are no bytes"))?;
        if *format != FORMAT {
            return Err(BadCounts("the format is unknown"));
        }
        let distinct = varint::read(&mut rest).ok_or(BadCounts("the number of words is missing"))?;
        for _ in 0..distinct {
            let length = varint::read(&mut rest).and_then(|n| usize::try_from(n).ok());
            let word = length.and_then(|n| rest.get(..n)).ok_or(BadCounts("a word is cut short"))?;
            rest = &rest[word.len()..];
            let count = varint::read(&mut rest).ok_or(BadCounts("a count is missing"))?;
            self.add_many(word, count);
        }
        if rest.is_empty() { Ok(()) } else { Err(BadCounts("there are bytes after the last word")) }
    }

    fn add_many(&mut self, word: &[u8], count: u64) {
        if count == 0 {
            return;
        }
        self.total += count;
        match self.counts.get_mut(word) {
            Some(known) => *known += count,
            None => {
                self.counts.insert(word.into(), count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_snapshot_restores_the_same_counts(words in prop::collection::vec("[a-c]{1,3}", 0..100)) {
            let mut counts = Counts::default();
            words.iter().for_each(|word| counts.add(word.as_bytes()));
            prop_assert_eq!(counts.total(), words.len() as u64);
            prop_assert_eq!(Counts::restore(&counts.snapshot()).unwrap(), counts);
        }

        #[test]
        fn a_damaged_snapshot_is_refused_or_read_but_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Counts::restore(&bytes);
        }
    }
}
