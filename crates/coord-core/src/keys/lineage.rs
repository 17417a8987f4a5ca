//! One key through time: what it has, and what it had as far back as that is kept. It knows neither the key nor the others.

use std::sync::Arc;

use crate::Revision;
use crate::keys::op::KeyValue;
use crate::shared::SharedQueue;

/// What a key had from a revision on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// The command that made it so.
    pub revision: Revision,
    /// Its place among the changes of that command.
    pub place: u32,
    /// `None`: it was removed.
    pub kv: Option<Arc<KeyValue>>,
}

/// The versions of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lineage {
    /// What it had before, oldest first, in the order of revisions, all below that of `last`.
    pub(crate) past: SharedQueue<Version>,
    /// What it has.
    pub(crate) last: Version,
}

impl Lineage {
    pub(crate) fn new(last: Version) -> Lineage {
        Lineage { past: SharedQueue::new(), last }
    }

    /// What it had after a revision that is not compacted.
    pub(crate) fn at(&self, revision: Revision) -> Option<&KeyValue> {
        if self.last.revision <= revision {
            return self.last.kv.as_deref();
        }
        let after = self.past.partition_point(|version| version.revision <= revision);
        self.past.get(after.checked_sub(1)?)?.kv.as_deref()
    }

    /// The version that a revision made, and the one before it, as far as they are kept.
    pub(crate) fn made_at(&self, revision: Revision) -> (Option<&Version>, Option<&Version>) {
        if self.last.revision == revision {
            return (Some(&self.last), self.past.back());
        }
        let before = self.past.partition_point(|version| version.revision < revision);
        let made = self.past.get(before).filter(|version| version.revision == revision);
        (made, before.checked_sub(1).and_then(|index| self.past.get(index)))
    }

    /// All versions, oldest first.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.past.iter().chain([&self.last])
    }
}
