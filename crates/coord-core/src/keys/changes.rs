//! What watchers read: the changes of keys from a revision on, out of the past that is kept. A watcher that is behind reads
//! on from where it was; one that is too far behind is told so.

use crate::keys::op::{KeyValue, Keys};
use crate::outcome::Refusal;
use crate::{Revision, State};

/// A key changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyChange<'a> {
    /// The command that changed it.
    pub revision: Revision,
    /// The key.
    pub key: &'a [u8],
    /// What it had then; `None`: it was removed.
    pub kv: Option<&'a KeyValue>,
    /// What it had before; `None`: it was not there, or that is no longer known.
    pub previous: Option<&'a KeyValue>,
}

impl State {
    /// The changes of these keys at a revision or after it, in order; those of one revision in the order in which the command
    /// made them. Lazy: whoever takes a few pays for those, and for the changes of other keys in between.
    ///
    /// # Errors
    /// [`Refusal::Compacted`]: some of them are no longer known. Read the keys, and watch from the revision after that.
    pub fn changes<'a>(
        &'a self,
        keys: &'a Keys,
        from: Revision,
    ) -> Result<impl Iterator<Item = KeyChange<'a>>, Refusal> {
        let space = &self.keys;
        if from < space.watchable {
            return Err(Refusal::Compacted { revision: from, compacted: space.watchable });
        }
        let first = space.changes.partition_point(|change| change.revision < from);
        let changes = space.changes.range(first..).filter(|change| keys.has(&change.key));
        Ok(changes.map(|change| {
            let lineage = &space.lineages[&change.key];
            let (made, before) = lineage.made_at(change.revision);
            let made = made.expect("a change that is kept has its version");
            let previous = before.and_then(|version| version.kv.as_ref());
            KeyChange { revision: change.revision, key: &change.key, kv: made.kv.as_ref(), previous }
        }))
    }
}
