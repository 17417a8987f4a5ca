//! What other stores have acknowledged to this node while it led the store, as far as it is committed.
//!
//! A committed entry is never truncated. So a store that has acknowledged one and does not have it any more is an older copy
//! that was put in its place; to count it again could lose what was acknowledged to clients. This remembers in memory only: what
//! happens while no store leader of before is there goes unnoticed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use palisade_planted::{self as planted, Bug};

use crate::Peer;

/// By store id: a wiped node is another store, and is refused as such.
#[derive(Default)]
pub(crate) struct Acknowledged(Mutex<Known>);

#[derive(Default)]
struct Known {
    committed: Option<u64>,
    by_store: BTreeMap<u64, u64>,
    /// Stores that went back, each told once.
    told: BTreeSet<u64>,
}

impl Acknowledged {
    /// Entries up to here are committed.
    pub(crate) fn committed(&self, index: Option<u64>) {
        let mut known = self.lock();
        known.committed = known.committed.max(index);
    }

    /// A store has said that it has, durably, all entries up to here.
    pub(crate) fn heard(&self, store_id: u64, index: Option<u64>) {
        let mut known = self.lock();
        let Some(committed) = known.committed.min(index) else { return };
        let heard = known.by_store.entry(store_id).or_insert(committed);
        *heard = committed.max(*heard);
    }

    /// The highest committed entry that a store has acknowledged.
    pub(crate) fn of(&self, store_id: u64) -> Option<u64> {
        // What acknowledges before its sync is to be caught by openraft's own assertion.
        if planted::is(Bug::OlderCopyCounts) || planted::is(Bug::AckBeforeSync) {
            return None;
        }
        self.lock().by_store.get(&store_id).copied()
    }

    /// A store has said that it does not have this entry. The words to refuse it with, if it had.
    pub(crate) fn missing(&self, peer: &Peer, store_id: u64, index: u64) -> Option<String> {
        let acknowledged = self.of(store_id).filter(|acknowledged| index <= *acknowledged)?;
        let why = format!(
            "{peer} had acknowledged entry {acknowledged} and does not have entry {index} any more: its data folder was \
             replaced by an older copy; remove it and add it under a new id"
        );
        if self.lock().told.insert(store_id) {
            tracing::error!(why, "a store went back");
        }
        Some(why)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer { node_id: 2, address: "n2:1".to_owned(), store_id: 20 }
    }

    #[test]
    fn only_what_is_committed_counts() {
        let acknowledged = Acknowledged::default();
        acknowledged.heard(20, Some(9));
        assert_eq!(acknowledged.of(20), None, "nothing is committed: all of it may be truncated");
        acknowledged.committed(Some(5));
        acknowledged.heard(20, Some(9));
        assert_eq!(acknowledged.of(20), Some(5));
        acknowledged.heard(20, Some(3));
        acknowledged.committed(None);
        assert_eq!(acknowledged.of(20), Some(5), "it never goes back");
        acknowledged.heard(20, None);
        assert_eq!((acknowledged.of(20), acknowledged.of(30)), (Some(5), None));
    }

    #[test]
    fn a_store_that_went_back_is_refused_with_words() {
        let acknowledged = Acknowledged::default();
        acknowledged.committed(Some(5));
        acknowledged.heard(20, Some(5));
        assert_eq!(acknowledged.missing(&peer(), 20, 6), None, "it may lack what it never had");
        assert_eq!(acknowledged.missing(&peer(), 21, 1), None, "another store");
        let words = acknowledged.missing(&peer(), 20, 5).unwrap();
        assert!(
            words.contains("node 2") && words.contains("acknowledged entry 5") && words.contains("older copy"),
            "{words}"
        );
    }
}
