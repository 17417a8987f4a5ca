//! Byte ranges of files, and the cursor that reads the words of one.
//!
//! A split is `start..end` of one file and owns the words whose *first* byte lies in it, so files may be cut anywhere: a word
//! across a border belongs to the split where it starts, and the next split skips it. The cursor does no I/O; it says what to
//! read next and takes the bytes.

use palisade_planted::{self as planted, Bug};
use serde::{Deserialize, Serialize};

use super::words::{WordSplitter, WordTooLong, is_space};

/// A file of the input, its size fixed when the job was submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// Absolute path.
    pub path: super::path::InputPath,
    /// Bytes that are read of it; what is appended later is not.
    pub size: u64,
}

/// A range of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Index into the job's list of files.
    pub file: usize,
    /// First byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
    /// Size of the file: a word that starts in the split may be read up to here.
    pub file_size: u64,
}

/// The splits of one source subtask: every `parallelism`-th of all, so that a large file is shared by all subtasks.
pub fn splits_of(files: &[InputFile], split_bytes: u64, subtask: u32, parallelism: u32) -> Vec<Split> {
    let split_bytes = split_bytes.max(1);
    let mut splits = Vec::new();
    let mut index = 0_u64;
    for (file, input) in files.iter().enumerate() {
        let mut start = 0;
        while start < input.size {
            let end = input.size.min(start.saturating_add(split_bytes));
            if index % u64::from(parallelism.max(1)) == u64::from(subtask) {
                splits.push(Split { file, start, end, file_size: input.size });
            }
            index += 1;
            start = end;
        }
    }
    splits
}

/// Where a cursor stands, in a form that a new one can go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitPosition {
    /// Next byte to read: the first byte of the word in progress, if there is one, which is then read again.
    pub offset: u64,
    /// Whether the bytes up to the next space belong to a word of the split before.
    pub skipping: bool,
}

/// Reads the words of one split.
#[derive(Clone, Debug)]
pub struct SplitCursor {
    split: Split,
    /// Next byte that was not fed.
    offset: u64,
    skipping: bool,
    words: WordSplitter,
}

impl SplitCursor {
    /// At the beginning of a split.
    pub fn new(split: Split) -> SplitCursor {
        // The byte before the split decides whether its first bytes are the rest of a word.
        let skipping = split.start > 0;
        SplitCursor { split, offset: split.start.saturating_sub(1), skipping, words: WordSplitter::default() }
    }

    /// Where another cursor stood.
    pub fn resume(split: Split, position: SplitPosition) -> SplitCursor {
        let skipping = position.skipping || planted::is(Bug::RestoredSourceSkipsAWord);
        SplitCursor { split, offset: position.offset, skipping, words: WordSplitter::default() }
    }

    /// Where it stands, between two records.
    pub fn position(&self) -> SplitPosition {
        let partial = u64::try_from(self.words.partial_len()).expect("a usize fits in a u64");
        SplitPosition { offset: self.offset - partial, skipping: self.skipping }
    }

    /// The file, the offset and how many bytes to read next; `None` when all words of the split are out.
    pub fn wants(&self, at_most: u64) -> Option<(usize, u64, u64)> {
        if self.offset < self.split.end {
            return Some((self.split.file, self.offset, at_most.min(self.split.end - self.offset)));
        }
        let in_word = !self.skipping && self.words.partial_len() > 0;
        if in_word && self.offset < self.split.file_size {
            // Past the split only for the rest of its last word: a few bytes as a rule.
            const TAIL: u64 = 256;
            return Some((self.split.file, self.offset, at_most.min(TAIL).min(self.split.file_size - self.offset)));
        }
        None
    }

    /// Takes the bytes at the offset that [`SplitCursor::wants`] named, at most as many; gives out the words they complete.
    pub fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(&[u8])) -> Result<(), WordTooLong> {
        let past_the_split = self.offset >= self.split.end;
        let mut bytes = bytes;
        if past_the_split {
            // Only the rest of the word in progress is ours.
            if let Some(space) = bytes.iter().position(|byte| is_space(*byte)) {
                bytes = &bytes[..=space];
            }
        }
        self.offset += u64::try_from(bytes.len()).expect("a usize fits in a u64");
        if self.skipping {
            match bytes.iter().position(|byte| is_space(*byte)) {
                None => return Ok(()),
                Some(space) => {
                    self.skipping = false;
                    bytes = &bytes[space + 1..];
                }
            }
        }
        self.words.feed(bytes, &mut emit)?;
        if self.offset >= self.split.file_size {
            self.words.finish(emit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words_of_split(content: &[u8], split: Split, read: u64, resume: &mut Vec<bool>) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        let mut cursor = SplitCursor::new(split);
        while let Some((_, offset, length)) = cursor.wants(read) {
            let from = offset as usize;
            cursor.feed(&content[from..from + length as usize], |word| words.push(word.to_vec())).unwrap();
            if resume.pop() == Some(true) {
                cursor = SplitCursor::resume(split, cursor.position());
            }
        }
        words
    }

    proptest! {
        #[test]
        fn every_word_is_in_exactly_one_split(
            content in prop::collection::vec(prop_oneof![3 => Just(b'a'), 2 => Just(b' '), 1 => Just(b'\n'), 1 => Just(b'b')], 0..200),
            split_bytes in 1u64..40, read in 1u64..20, parallelism in 1u32..4, mut resume in prop::collection::vec(any::<bool>(), 0..30))
        {
            let files = [InputFile { path: super::super::path::InputPath::from("f"), size: content.len() as u64 }];
            let mut words: Vec<Vec<u8>> = (0..parallelism)
                .flat_map(|subtask| splits_of(&files, split_bytes, subtask, parallelism))
                .flat_map(|split| words_of_split(&content, split, read, &mut resume))
                .collect();
            let mut expected: Vec<Vec<u8>> =
                content.split(|byte| is_space(*byte)).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect();
            words.sort();
            expected.sort();
            prop_assert_eq!(words, expected);
        }
    }
}
