//! What watchers read: the changes of keys from a revision on, out of the past that is kept. A watcher that is behind reads
//! on from where it was; one that is too far behind is told so.
//!
//! Keeps true: whoever reads on from where a page ended sees every change of its keys once, in order, or is refused. A page
//! ends within a revision only if that revision is larger than a page, and says so.

use palisade_planted::{self as planted, Bug};

use crate::keys::op::{KeyValue, Keys};
use crate::keys::space::{Change, KeySpace};
use crate::outcome::Refusal;
use crate::{Revision, State};

/// A place in the order of all changes: everything before it has been read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bookmark {
    /// The command.
    pub revision: Revision,
    /// Among the changes of that command.
    pub place: u32,
}

/// How much one page may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageSize {
    /// Changes that are looked at, those of other keys included. At least 1.
    pub changes: usize,
    /// Of what is found: it is exceeded by one change at most.
    pub bytes: u64,
}

/// Some changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangePage<'a> {
    /// In order.
    pub changes: Vec<KeyChange<'a>>,
    /// Where to read on.
    pub next: Bookmark,
    /// Whether there may be more of the revision that `next` names, of which a part was read.
    pub is_part: bool,
}

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

impl Bookmark {
    /// Before the first change of a revision.
    pub fn before(revision: Revision) -> Bookmark {
        Bookmark { revision, place: 0 }
    }

    /// After the last change of a revision.
    pub fn after(revision: Revision) -> Bookmark {
        Bookmark::before(revision.next())
    }
}

impl State {
    /// A page of the changes of these keys, from a bookmark up to a revision and that one's included. `weigh` says how many
    /// bytes a change takes; `None`: it is not wanted.
    ///
    /// # Errors
    /// [`Refusal::Compacted`]: some of them are no longer known.
    pub fn change_page<'a>(
        &'a self,
        keys: &Keys,
        from: Bookmark,
        until: Revision,
        size: PageSize,
        weigh: impl Fn(&KeyChange<'a>) -> Option<u64>,
    ) -> Result<ChangePage<'a>, Refusal> {
        let space = &self.keys;
        if from.revision < space.watchable {
            return Err(Refusal::Compacted { revision: from.revision, compacted: space.watchable });
        }
        let first = space.changes.partition_point(|it| Bookmark { revision: it.revision, place: it.place } < from);
        let mut page = ChangePage { changes: Vec::new(), next: from, is_part: false };
        let mut bytes = 0;
        for (looked, change) in space.changes.range(first..).enumerate() {
            if change.revision > until {
                break;
            }
            let here = Bookmark { revision: change.revision, place: change.place };
            if looked >= size.changes || bytes >= size.bytes {
                page.end_before(here, from);
                return Ok(page);
            }
            page.next = Bookmark { place: here.place + 1, ..here };
            if keys.has(&change.key) {
                let change = space.change_at(change);
                if let Some(weight) = weigh(&change) {
                    bytes += weight;
                    page.changes.push(change);
                }
            }
        }
        // All of them have been looked at; one that begins after `until` waits for what comes.
        page.next = from.max(Bookmark::after(until));
        Ok(page)
    }

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
        Ok(changes.map(|change| space.change_at(change)))
    }
}

impl ChangePage<'_> {
    /// The page is full, and this change is not in it. It ends after a whole revision if it has one.
    fn end_before(&mut self, here: Bookmark, from: Bookmark) {
        if here.place == 0 {
            self.next = here;
            return;
        }
        let whole = Bookmark::before(here.revision);
        if whole > from && !planted::is(Bug::RevisionSplit) {
            // The page began with an earlier revision: what it has of this one comes with the next page.
            self.changes.retain(|change| change.revision < here.revision);
            self.next = whole;
        } else {
            self.next = here;
            self.is_part = !planted::is(Bug::RevisionSplit);
        }
    }
}

impl KeySpace {
    /// A change that is kept, with what the key had then and before.
    fn change_at<'a>(&'a self, change: &'a Change) -> KeyChange<'a> {
        let lineage = &self.lineages[&change.key];
        let (made, before) = lineage.made_at(change.revision);
        let made = made.expect("a change that is kept has its version");
        let previous = before.and_then(|version| version.kv.as_deref());
        KeyChange { revision: change.revision, key: &change.key, kv: made.kv.as_deref(), previous }
    }
}
