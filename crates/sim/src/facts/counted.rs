//! The words of a text, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How often each word occurs.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Counted(Arc<BTreeMap<Vec<u8>, u64>>);

impl Counted {
    /// These counts.
    pub fn new(counts: BTreeMap<Vec<u8>, u64>) -> Counted {
        Counted(Arc::new(counts))
    }

    /// The first word that occurs here another number of times than there, and both numbers.
    pub fn first_difference(&self, other: &Counted) -> Option<(String, u64, u64)> {
        let count = |counts: &Counted, word: &Vec<u8>| counts.0.get(word).copied().unwrap_or(0);
        let mut words = self.0.keys().chain(other.0.keys());
        let word = words.find(|word| count(self, word) != count(other, word))?;
        Some((String::from_utf8_lossy(word).into_owned(), count(self, word), count(other, word)))
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} words, {} different", self.0.values().sum::<u64>(), self.0.len())
    }
}
