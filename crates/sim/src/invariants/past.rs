//! Reads equal the past: whatever a read of keys finds is what they had at the revision that it asked for, no more and no less;
//! only what was compacted is refused, and that always. Transactions do what their conditions say, whole, and keys go when
//! their session does: what each command changed is what it was asked to change.

use std::time::Duration;

use super::Invariant;
use super::history::History;
use super::keyspace::Keyspace;
use crate::facts::{Fact, FoundKey, Ranged, Restoration, Unreadable};

#[derive(Default)]
pub(super) struct ReadsEqualThePast {
    history: History,
    keys: Keyspace,
    /// The last restore.
    begins: Option<Restoration>,
}

impl ReadsEqualThePast {
    fn ranged(&self, ranged: &Ranged) -> Result<(), String> {
        let Ranged { seq, revision, asked, .. } = ranged;
        let (known, compacted) = (self.keys.revision_at(*seq), self.keys.compacted_at(*seq));
        if *revision != known {
            return Err(format!("the revision at seq {seq} was {known}: {ranged:?}"));
        }
        if asked.is_some_and(|asked| asked < compacted || asked > known) {
            return Err(format!("what was asked for cannot be known after the compaction of {compacted}: {ranged:?}"));
        }
        let all: Vec<_> = self.keys.at(ranged.prefix.as_bytes(), asked.unwrap_or(known)).collect();
        let limit = if ranged.limit == 0 { usize::MAX } else { usize::try_from(ranged.limit).unwrap_or(usize::MAX) };
        let expected: Vec<_> = all.iter().take(limit).map(|(key, has)| has.found(key)).collect();
        if ranged.found != expected || ranged.count != all.len() as u64 {
            return Err(format!("there were {} keys, first {expected:?}: {ranged:?}", all.len()));
        }
        Ok(())
    }

    /// What a cluster begins with is what the backup had.
    fn begins(&self, node: usize, restoration: &Restoration, keys: &[FoundKey]) -> Result<(), String> {
        let there = self.keys.at(b"", restoration.begins.revision);
        let expected: Vec<_> = there.map(|(key, has)| has.found(key)).collect();
        if expected == keys {
            return Ok(());
        }
        Err(format!("node {node} begins with {keys:?} after {restoration:?}, and the backup had {expected:?}"))
    }

    fn refused(&self, asked: u64, why: Unreadable, seq: u64) -> Result<(), String> {
        let (known, compacted) = (self.keys.revision_at(seq), self.keys.compacted_at(seq));
        let rightly = match why {
            Unreadable::Compacted => asked < compacted,
            Unreadable::Future => asked > known,
        };
        if rightly {
            return Ok(());
        }
        Err(format!("revision {asked} was refused as {why:?} at seq {seq}: from {compacted} to {known} all are known"))
    }
}

impl Invariant for ReadsEqualThePast {
    fn name(&self) -> &'static str {
        "reads-equal-the-past"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.keys.restored(restoration);
        self.begins = Some(*restoration);
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            return self.keys.apply(applied);
        }
        match fact {
            Fact::Ranged(ranged) => self.ranged(ranged),
            Fact::BackedUp { seq, revision, .. } if *revision != self.keys.revision_at(*seq) => {
                Err(format!("the revision at seq {seq} was {}: {fact:?}", self.keys.revision_at(*seq)))
            }
            Fact::Restored { node, seq, beginning: Some(found), .. } => match self.begins {
                Some(restoration) if restoration.begins.seq == *seq => self.begins(*node, &restoration, &found.keys),
                Some(_) | None => Ok(()),
            },
            Fact::RangeRefused { asked, why, seq, .. } => self.refused(*asked, *why, *seq),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::keys::op::{Binding, Compare, Operand, Put, Relation, Txn};
    use palisade_coord_core::{EndReason, Event, KeyOp, KeyReply, Keys, Op, Reply, Revision, SessionId};

    use super::super::history::tests::{applied, ended, fact};
    use super::*;
    use crate::facts::Applied;

    /// A write of a key, at the revision of its `seq`.
    fn put(key: &str, value: &str, session: Option<u64>) -> KeyOp {
        let binding = session.map_or(Binding::None, |id| Binding::To(SessionId(id)));
        KeyOp::Put(Put { session: binding, ..Put::new(key, value) })
    }

    fn changed(seq: u64, key: &str, version: Option<u64>) -> Event {
        Event::KeyChanged { key: key.as_bytes().to_vec(), revision: Revision(seq), version }
    }

    fn wrote(seq: u64, key: &str, value: &str, session: Option<u64>) -> Applied {
        let reply = Reply::Keys(KeyReply::Put { version: 1, previous: None });
        applied(seq, Op::Keys(put(key, value, session)), Ok(reply), vec![changed(seq, key, Some(1))])
    }

    fn has(key: &str, value: &str, revision: u64, session: u64) -> FoundKey {
        let (key, value) = (key.to_owned(), value.to_owned());
        FoundKey { key, value, create_revision: revision, mod_revision: revision, version: 1, session }
    }

    fn ranged(seq: u64, asked: Option<u64>, found: &[FoundKey]) -> Fact {
        let (read, prefix, found) = (String::from("r"), String::from("k"), found.to_vec());
        let count = found.len() as u64;
        Fact::Ranged(Ranged { read, prefix, asked, limit: 0, seq, revision: seq, stale: false, found, count })
    }

    fn compacted(seq: u64, revision: u64) -> Applied {
        let mut compacted =
            applied(seq, Op::Compact { revision: Revision(revision) }, Ok(Reply::Compacted), Vec::new());
        compacted.outcome.revision = Revision(seq - 1);
        compacted
    }

    fn after(history: &[Applied], last: Fact) -> Result<(), String> {
        let mut past = ReadsEqualThePast::default();
        history.iter().try_for_each(|applied| past.on(&fact(applied.clone()), Duration::ZERO))?;
        past.on(&last, Duration::ZERO)
    }

    #[test]
    fn it_can_object_to_reads() {
        let history = [wrote(1, "k1", "a", None), wrote(2, "k2", "b", Some(7))];
        let (one, two) = (has("k1", "a", 1, 0), has("k2", "b", 2, 7));
        assert_eq!(after(&history, ranged(2, None, &[one.clone(), two.clone()])), Ok(()));
        assert!(after(&history, ranged(2, None, std::slice::from_ref(&one))).is_err(), "a key is missing");
        assert_eq!(after(&history, ranged(2, Some(1), std::slice::from_ref(&one))), Ok(()));
        assert!(after(&history, ranged(2, Some(1), &[one.clone(), two.clone()])).is_err(), "that is the present");
        assert!(after(&history, ranged(2, None, &[one.clone(), has("k2", "b", 2, 8)])).is_err(), "another session's");
        assert!(after(&history, ranged(2, Some(9), &[one, two])).is_err(), "it has not come yet");
    }

    #[test]
    fn it_can_object_to_what_is_refused_and_what_is_not() {
        let history = [wrote(1, "k1", "a", None), wrote(2, "k2", "b", None), compacted(3, 2)];
        let refused = |asked, why| Fact::RangeRefused { read: "r".into(), asked, why, seq: 3 };
        assert_eq!(after(&history, refused(1, Unreadable::Compacted)), Ok(()));
        assert!(after(&history, refused(2, Unreadable::Compacted)).is_err());
        assert_eq!(after(&history, refused(3, Unreadable::Future)), Ok(()));
        assert!(after(&history, refused(2, Unreadable::Future)).is_err());
        let mut read = ranged(3, Some(1), &[has("k1", "a", 1, 0)]);
        if let Fact::Ranged(ranged) = &mut read {
            ranged.revision = 2;
        }
        assert!(after(&history, read).is_err(), "it was compacted");
    }

    #[test]
    fn it_can_object_to_keys_that_outlive_their_session() {
        let bound = wrote(1, "k", "a", Some(7));
        let gone = ended(2, 7, EndReason::Expired, Some(1), Some(changed(2, "k", None)));
        assert_eq!(after(std::slice::from_ref(&bound), fact(gone)), Ok(()));
        assert!(after(&[bound], fact(ended(2, 7, EndReason::Expired, Some(1), None))).is_err());
    }

    #[test]
    fn it_can_object_to_transactions() {
        let txn = |succeeded: bool, replies: usize, keys: &[&str]| {
            let absent =
                Compare { keys: Keys::One(b"k1".to_vec()), relation: Relation::Equal, operand: Operand::Version(0) };
            let success = vec![put("k2", "b", None), put("k3", "c", None)];
            let op = Op::Keys(KeyOp::Txn(Txn { compare: vec![absent], success, ..Txn::default() }));
            let replies = vec![KeyReply::Put { version: 1, previous: None }; replies];
            let events = keys.iter().map(|key| changed(1, key, Some(1))).collect();
            fact(applied(1, op, Ok(Reply::Keys(KeyReply::Txn { succeeded, replies })), events))
        };
        assert_eq!(after(&[], txn(true, 2, &["k2", "k3"])), Ok(()));
        assert!(after(&[], txn(true, 2, &["k2"])).is_err(), "half of it");
        assert!(after(&[], txn(true, 1, &["k2"])).is_err(), "half of it, and it says so");
        assert!(after(&[], txn(false, 0, &[])).is_err(), "its condition holds");
    }
}
