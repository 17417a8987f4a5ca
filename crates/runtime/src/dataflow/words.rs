//! Cuts bytes into words. A word is a maximal run of bytes other than 09-0D and 20, within one file.
//!
//! It knows nothing of files: whoever feeds it says where a file ends. It keeps true that the words it gives out do not
//! depend on how the bytes were cut into buffers.

use thiserror::Error;

/// The longest word that a job counts. A word is a record, and a record travels in one message of the exchange, so it must
/// fit in memory a few times over; text has none near this, and binary files rarely.
pub const WORD_MAX: usize = 1 << 20;

/// The input has a run of non-space bytes that is longer than a record may be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a word of more than {WORD_MAX} bytes")]
pub struct WordTooLong;

/// Whether a byte separates words.
pub fn is_space(byte: u8) -> bool {
    matches!(byte, 0x09..=0x0d | 0x20)
}

/// Keeps the word that the last buffer left unfinished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordSplitter {
    /// Bytes of the word in progress. Invariant: no space in it, at most [`WORD_MAX`] long.
    partial: Vec<u8>,
}

impl WordSplitter {
    /// Takes the next bytes and gives out every word that they complete.
    pub fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(&[u8])) -> Result<(), WordTooLong> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| is_space(*byte)) {
            let (head, tail) = rest.split_at(at);
            if self.partial.is_empty() {
                check_length(head.len())?;
                if !head.is_empty() {
                    emit(head);
                }
            } else {
                self.extend(head)?;
                emit(&self.partial);
                self.partial.clear();
            }
            rest = &tail[1..];
        }
        self.extend(rest)
    }

    /// The file is over, and with it the word in progress.
    pub fn finish(&mut self, mut emit: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            emit(&self.partial);
            self.partial.clear();
        }
    }

    /// Length of the word in progress; 0 between words.
    pub fn partial_len(&self) -> usize {
        self.partial.len()
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), WordTooLong> {
        check_length(self.partial.len() + bytes.len())?;
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

fn check_length(length: usize) -> Result<(), WordTooLong> {
    if length > WORD_MAX { Err(WordTooLong) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, byte by byte.
    fn plainly(bytes: &[u8]) -> Vec<Vec<u8>> {
        bytes.split(|byte| is_space(*byte)).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
    }

    proptest! {
        #[test]
        fn words_do_not_depend_on_the_buffers(bytes in prop::collection::vec(prop_oneof![Just(b' '), Just(b'\n'), any::<u8>()], 0..300), cuts in prop::collection::vec(1usize..20, 1..40)) {
            let mut words = Vec::new();
            let mut splitter = WordSplitter::default();
            let mut rest = &bytes[..];
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                splitter.feed(head, |word| words.push(word.to_vec())).unwrap();
                rest = tail;
            }
            splitter.finish(|word| words.push(word.to_vec()));
            prop_assert_eq!(words, plainly(&bytes));
        }
    }

    #[test]
    fn exactly_six_bytes_are_spaces() {
        let spaces: Vec<u8> = (0..=255).filter(|byte| is_space(*byte)).collect();
        assert_eq!(spaces, [0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x20]);
    }

    #[test]
    fn a_word_over_the_limit_is_refused_wherever_the_buffers_end() {
        let mut splitter = WordSplitter::default();
        splitter.feed(&vec![b'x'; WORD_MAX], |_| ()).unwrap();
        assert_eq!(splitter.feed(b"x", |_| ()), Err(WordTooLong));
        let mut long = vec![b'x'; WORD_MAX + 1];
        long.push(b' ');
        assert_eq!(WordSplitter::default().feed(&long, |_| ()), Err(WordTooLong));
    }
}
