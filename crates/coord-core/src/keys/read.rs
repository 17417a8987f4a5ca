//! Reading keys: present or past, in any order, with limits. It changes nothing, and serves reads outside the log as well.

use std::cmp::Ordering;

use crate::frozen::Frozen;
use crate::keys::Lineage;
use crate::keys::op::{Field, Findings, Found, KeyValue, Order, Read, Shows, Within};
use crate::keys::space::{self, Key};
use crate::limits::{LONG_READ, MAX_REPLY_BYTES, VERSION_SHARE_BYTES};
use crate::outcome::Refusal;
use crate::shared::SharedMap;
use crate::{Revision, State};

impl State {
    /// Reads keys.
    ///
    /// # Errors
    /// [`Refusal::Compacted`] or [`Refusal::FutureRevision`]: what was then is not known.
    pub fn read(&self, read: &Read) -> Result<Findings, Refusal> {
        check(self.revision, self.keys.compacted, read)?;
        Ok(find(&self.keys.lineages, read, &mut ReplyRoom::default()))
    }

    /// Whether a read looks at more than [`LONG_READ`] keys: then [`Frozen::read`] is the one for it.
    pub fn is_long(&self, read: &Read) -> bool {
        self.keys.looked_at(&read.keys, LONG_READ + 1) > LONG_READ
    }
}

impl Frozen {
    /// As [`State::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, read: &Read) -> Result<Findings, Refusal> {
        check(self.revision, self.compacted, read)?;
        Ok(find(&self.lineages, read, &mut ReplyRoom::default()))
    }
}

/// Whether the past that is asked for is known.
pub(crate) fn check(current: Revision, compacted: Revision, read: &Read) -> Result<(), Refusal> {
    match read.revision {
        Some(revision) if revision > current => Err(Refusal::FutureRevision { revision, current }),
        Some(revision) if revision < compacted => Err(Refusal::Compacted { revision, compacted }),
        Some(_) | None => Ok(()),
    }
}

/// How much of keys and values the answer to one command may still have.
pub(crate) struct ReplyRoom(u64);

impl Default for ReplyRoom {
    fn default() -> ReplyRoom {
        ReplyRoom(MAX_REPLY_BYTES)
    }
}

impl ReplyRoom {
    /// Takes room for a key and a value, if there is.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> bool {
        match self.0.checked_sub(VERSION_SHARE_BYTES + (key.len() + value.len()) as u64) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

pub(crate) fn find(lineages: &SharedMap<Key, Lineage>, read: &Read, room: &mut ReplyRoom) -> Findings {
    let all = space::range(lineages, &read.keys, read.revision);
    if read.shows == Shows::Count {
        return Findings { found: Vec::new(), count: all.count() as u64, more: false };
    }
    let limit = if read.limit == 0 { usize::MAX } else { usize::try_from(read.limit).unwrap_or(usize::MAX) };
    let in_order = read.order == Order::default();
    let (mut chosen, mut count, mut fitting) = (Vec::new(), 0, 0usize);
    for (key, kv) in all {
        count += 1;
        if !fits(kv, &read.written, &read.created) {
            continue;
        }
        fitting += 1;
        // What comes in the order of keys need not be sorted, and what is over the limit not even be kept.
        if !in_order || chosen.len() < limit {
            chosen.push((key, kv));
        }
    }
    if !in_order {
        chosen.sort_by(|one, other| compare(read.order, *one, *other));
        chosen.truncate(limit);
    }
    let value = |kv: &'_ KeyValue| if read.shows == Shows::Whole { kv.value.len() } else { 0 };
    let fit = chosen.iter().take_while(|(key, kv)| room.take(key, &kv.value[..value(kv)])).count();
    chosen.truncate(fit);
    let found: Vec<_> = chosen.into_iter().map(|(key, kv)| found(key, kv, read.shows)).collect();
    Findings { more: fitting > found.len(), found, count }
}

fn fits(kv: &KeyValue, written: &Within, created: &Within) -> bool {
    written.has(kv.mod_revision) && created.has(kv.create_revision)
}

fn compare(order: Order, one: (&Key, &KeyValue), other: (&Key, &KeyValue)) -> Ordering {
    let ((key, kv), (other_key, other_kv)) = (one, other);
    let by_number = |of: fn(&KeyValue) -> Revision| of(kv).cmp(&of(other_kv));
    let ordering = match order.by {
        Field::Key => key.cmp(other_key),
        Field::Version => kv.version.cmp(&other_kv.version),
        Field::Created => by_number(|kv| kv.create_revision),
        Field::Written => by_number(|kv| kv.mod_revision),
        Field::Value => kv.value.cmp(&other_kv.value),
    };
    let ordering = if order.descending { ordering.reverse() } else { ordering };
    ordering.then_with(|| key.cmp(other_key))
}

fn found(key: &Key, kv: &KeyValue, shows: Shows) -> Found {
    let kv = match shows {
        Shows::Whole => kv.clone(),
        Shows::NoValues | Shows::Count => KeyValue { value: Vec::new(), ..*kv },
    };
    Found { key: key.to_vec(), kv }
}
