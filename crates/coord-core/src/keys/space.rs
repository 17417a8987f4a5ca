//! All keys with their past. Every write is an entry in the order of changes, which watchers read and compaction follows, so
//! that neither ever looks at a key that did not change.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::Revision;
use crate::keys::op::{KeyValue, Keys};
use crate::keys::{Lineage, Version};
use crate::limits::VERSION_SHARE_BYTES;
use crate::shared::SharedMap;

/// The bytes of a key, shared by the places that name it.
pub type Key = Arc<[u8]>;

/// All keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeySpace {
    /// Every key that is there, and every one that was and whose past is kept.
    pub(crate) lineages: SharedMap<Key, Lineage>,
    /// The changes that are kept, in order: exactly the versions from the first of them on.
    pub(crate) changes: VecDeque<Change>,
    /// Reads at an earlier revision are refused. Never goes back, and never above the revision.
    pub(crate) compacted: Revision,
    /// Watching from an earlier revision is refused. `compacted`, or the one after it.
    pub(crate) watchable: Revision,
    /// How many keys are there: exactly.
    pub(crate) count: u64,
    /// Bytes of the keys and values that are there: exactly their sum.
    pub(crate) bytes: u64,
    /// What the versions count for that are past, removals included: exactly, as [`weight`] says.
    pub(crate) past_bytes: u64,
}

/// A key changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) revision: Revision,
    /// Among the changes of that revision.
    pub(crate) place: u32,
    pub(crate) key: Key,
}

impl KeySpace {
    /// What a key has.
    pub fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.lineages.get(key)?.last.kv.as_deref()
    }

    /// Which keys there are, in order, with what they have.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &KeyValue)> {
        self.lineages.iter().filter_map(|(key, lineage)| Some((key, lineage.last.kv.as_deref()?)))
    }

    /// How many keys there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Reads at an earlier revision are refused.
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// Watching from an earlier revision is refused.
    pub fn watchable(&self) -> Revision {
        self.watchable
    }

    /// The first change that is kept: its revision, and its place there.
    pub fn first_change(&self) -> Option<(Revision, u32)> {
        self.changes.front().map(|change| (change.revision, change.place))
    }

    /// These keys in order, as they are, or as they were after a revision that is not compacted.
    pub(crate) fn range(&self, keys: &Keys, at: Option<Revision>) -> impl Iterator<Item = (&Key, &KeyValue)> {
        range(&self.lineages, keys, at)
    }

    /// How many keys are looked at where these are meant, up to a number.
    pub(crate) fn looked_at(&self, keys: &Keys, most: u64) -> u64 {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        keys.bounds().map_or(0, |bounds| self.lineages.range::<[u8]>(bounds).take(most).count() as u64)
    }

    /// Makes a version of a key, the last one. A key that a command changes twice has what it had last.
    pub(crate) fn change(&mut self, key: &[u8], revision: Revision, kv: Option<KeyValue>) -> Key {
        let place = self.changes.back().filter(|last| last.revision == revision).map_or(0, |last| last.place + 1);
        match &kv {
            Some(kv) => {
                self.count += 1;
                self.bytes += (key.len() + kv.value.len()) as u64;
            }
            None => self.past_bytes += weight(key, None),
        }
        let kv = kv.map(Arc::new);
        let Some((shared, _)) = self.lineages.get_key_value(key) else {
            assert!(kv.is_some(), "a key was removed that was never there");
            let key: Key = Arc::from(key);
            self.lineages.insert(Arc::clone(&key), Lineage::new(Version { revision, place, kv }));
            self.changes.push_back(Change { revision, place, key: Arc::clone(&key) });
            return key;
        };
        let key = Arc::clone(shared);
        let lineage = self.lineages.get_mut(&key).expect("it was found above");
        match &lineage.last.kv {
            Some(old) => {
                self.count -= 1;
                self.bytes -= (key.len() + old.value.len()) as u64;
            }
            None => self.past_bytes -= weight(&key, None),
        }
        if lineage.last.revision == revision {
            lineage.last.kv = kv;
            return key;
        }
        assert!(lineage.last.revision < revision, "a key was changed before its last change");
        let old = std::mem::replace(&mut lineage.last, Version { revision, place, kv });
        self.past_bytes += weight(&key, old.kv.as_deref());
        lineage.past.push_back(old);
        self.changes.push_back(Change { revision, place, key: Arc::clone(&key) });
        key
    }
}

/// As [`KeySpace::range`].
pub(crate) fn range<'a>(
    lineages: &'a SharedMap<Key, Lineage>,
    keys: &Keys,
    at: Option<Revision>,
) -> impl Iterator<Item = (&'a Key, &'a KeyValue)> {
    let lineages = keys.bounds().map(|bounds| lineages.range::<[u8]>(bounds));
    lineages.into_iter().flatten().filter_map(move |(key, lineage)| {
        let kv = match at {
            None => lineage.last.kv.as_deref(),
            Some(revision) => lineage.at(revision),
        };
        Some((key, kv?))
    })
}

/// What a version counts for in [`KeySpace::past_bytes`].
pub(crate) fn weight(key: &[u8], kv: Option<&KeyValue>) -> u64 {
    VERSION_SHARE_BYTES + (key.len() + kv.map_or(0, |kv| kv.value.len())) as u64
}
