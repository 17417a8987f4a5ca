//! Many records in one message: each word as a length (LEB128) and its bytes.
//!
//! A batch is data from another process, so reading one can fail; it never panics and never reads past the end.

use thiserror::Error;

use super::varint;

/// A batch is sent when it has reached this size: large enough that the cost per message vanishes, small enough that a
/// channel's few credits do not hold much memory.
pub const BATCH_BYTES: usize = 32 << 10;

/// The bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a record batch is cut short or carries a length that is not one")]
pub struct BadBatch;

/// Records on their way to one subtask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordBatch {
    bytes: Vec<u8>,
    records: u64,
}

impl RecordBatch {
    /// Adds a record.
    pub fn push(&mut self, record: &[u8]) {
        varint::write(&mut self.bytes, u64::try_from(record.len()).expect("a usize fits in a u64"));
        self.bytes.extend_from_slice(record);
        self.records += 1;
    }

    /// Whether it should be sent.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records it has.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Takes the content and leaves an empty batch.
    pub fn take(&mut self) -> Vec<u8> {
        self.records = 0;
        std::mem::take(&mut self.bytes)
    }
}

/// Calls `each` for every record; returns how many there were.
pub fn read_batch(bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<u64, BadBatch> {
    let mut rest = bytes;
    let mut records = 0;
    while !rest.is_empty() {
        let length = varint::read(&mut rest).and_then(|n| usize::try_from(n).ok()).ok_or(BadBatch)?;
        let record = rest.get(..length).ok_or(BadBatch)?;
        each(record);
        records += 1;
        rest = &rest[length..];
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_batch_comes_back_as_it_was(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..50)) {
            let mut batch = RecordBatch::default();
            words.iter().for_each(|word| batch.push(word));
            prop_assert_eq!(batch.records(), words.len() as u64);
            let mut back = Vec::new();
            read_batch(&batch.take(), |word| back.push(word.to_vec())).unwrap();
            prop_assert_eq!(back, words);
            prop_assert!(batch.is_empty());
        }

        #[test]
        fn garbage_is_refused_or_read_but_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read_batch(&bytes, |_| ());
        }
    }
}
