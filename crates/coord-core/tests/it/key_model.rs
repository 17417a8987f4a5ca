//! The plain model of keys: all of them, as they were after each revision. Nothing is shared, indexed or forgotten.

use std::collections::BTreeMap;

use palisade_coord_core::keys::op::{
    Binding, Compare, Delete, Field, Findings, Found, Operand, Put, Read, Relation, Shows, Txn,
};
use palisade_coord_core::{KeyOp, KeyReply, KeyValue, Keys, Refusal, Revision, SessionId};
use palisade_fence::{Fence, Token};

type All = BTreeMap<Vec<u8>, KeyValue>;

/// A change as watchers see it: revision, key, what it is, what it was.
pub(crate) type Changed = (u64, Vec<u8>, Option<KeyValue>, Option<KeyValue>);

#[derive(Clone)]
pub(crate) struct KeyModel {
    /// By revision.
    past: Vec<All>,
    /// By revision: what was changed, in the order in which it was first.
    changed: Vec<Vec<Vec<u8>>>,
    pub(crate) compacted: u64,
}

impl Default for KeyModel {
    fn default() -> KeyModel {
        KeyModel { past: vec![All::new()], changed: vec![vec![]], compacted: 0 }
    }
}

/// What is true outside of the keys.
pub(crate) struct Around<'a> {
    pub(crate) lives: &'a dyn Fn(SessionId) -> bool,
    pub(crate) leads: &'a dyn Fn(&str) -> Option<Token>,
}

impl KeyModel {
    pub(crate) fn revision(&self) -> u64 {
        self.past.len() as u64 - 1
    }

    pub(crate) fn present(&self) -> &All {
        self.past.last().unwrap()
    }

    pub(crate) fn apply(&mut self, op: &KeyOp, around: &Around<'_>) -> Result<KeyReply, Refusal> {
        let mut decisions = Vec::new();
        self.decide(op, &mut decisions);
        self.check(op, &mut decisions.iter(), around)?;
        let mut draft = Draft { revision: self.revision() + 1, all: self.present().clone(), changed: vec![] };
        let reply = self.run(op, &mut decisions.iter(), &mut draft);
        self.keep(draft);
        Ok(reply)
    }

    pub(crate) fn release(&mut self, id: SessionId) {
        let mut draft = Draft { revision: self.revision() + 1, all: self.present().clone(), changed: vec![] };
        for (key, _) in self.present().iter().filter(|(_, kv)| kv.session == Some(id)) {
            draft.set(key, None);
        }
        self.keep(draft);
    }

    pub(crate) fn compact(&mut self, revision: u64) -> Result<(), Refusal> {
        if revision > self.revision() {
            return Err(self.future(revision));
        }
        if revision <= self.compacted {
            return Err(Refusal::Compacted { revision: Revision(revision), compacted: Revision(self.compacted) });
        }
        self.compacted = revision;
        Ok(())
    }

    /// Everything that watchers can still see.
    pub(crate) fn changes(&self) -> Vec<Changed> {
        let mut changes = Vec::new();
        for revision in (self.compacted.max(1) as usize)..self.past.len() {
            for key in &self.changed[revision] {
                let at = |revision: usize| self.past[revision].get(key).cloned();
                changes.push((revision as u64, key.clone(), at(revision), at(revision - 1)));
            }
        }
        changes
    }

    fn keep(&mut self, draft: Draft) {
        if !draft.changed.is_empty() {
            self.past.push(draft.all);
            self.changed.push(draft.changed);
        }
    }

    fn future(&self, revision: u64) -> Refusal {
        Refusal::FutureRevision { revision: Revision(revision), current: Revision(self.revision()) }
    }

    /// Of every transaction, in the order in which they stand, whether its conditions hold now.
    fn decide(&self, op: &KeyOp, decisions: &mut Vec<bool>) {
        let KeyOp::Txn(txn) = op else { return };
        let succeeded = txn.compare.iter().all(|it| self.holds(it));
        decisions.push(succeeded);
        branch(txn, succeeded).iter().for_each(|op| self.decide(op, decisions));
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found: Vec<_> = self.present().iter().filter(|(key, _)| compare.keys.has(key)).map(|(_, kv)| kv).collect();
        let is = |relation: Relation, less: bool, equal: bool| match relation {
            Relation::Equal => equal,
            Relation::NotEqual => !equal,
            Relation::Less => less,
            Relation::Greater => !less && !equal,
        };
        if let (Operand::Value(_), true) = (&compare.operand, found.is_empty()) {
            return false;
        }
        let nothing = KeyValue {
            value: vec![],
            create_revision: Revision(0),
            mod_revision: Revision(0),
            version: 0,
            session: None,
        };
        let all = if found.is_empty() { vec![&nothing] } else { found };
        all.into_iter().all(|kv| match &compare.operand {
            Operand::Version(it) => is(compare.relation, kv.version < *it, kv.version == *it),
            Operand::Created(it) => is(compare.relation, kv.create_revision < *it, kv.create_revision == *it),
            Operand::Written(it) => is(compare.relation, kv.mod_revision < *it, kv.mod_revision == *it),
            Operand::Value(it) => is(compare.relation, kv.value < *it, kv.value == *it),
            Operand::Session(it) => {
                let number = |id: &Option<SessionId>| id.map_or(0, |id| id.get());
                is(compare.relation, number(&kv.session) < number(it), number(&kv.session) == number(it))
            }
        })
    }

    fn check<'d>(
        &self,
        op: &KeyOp,
        decisions: &mut impl Iterator<Item = &'d bool>,
        around: &Around<'_>,
    ) -> Result<(), Refusal> {
        let fenced = |fence: &Option<Fence>| match fence {
            Some(Fence { election, token }) if (around.leads)(election) != Some(*token) => {
                Err(Refusal::StaleToken { election: election.clone(), current: (around.leads)(election) })
            }
            _ => Ok(()),
        };
        match op {
            KeyOp::Put(put) => {
                fenced(&put.fence)?;
                let keeps = put.value.is_none() || put.session == Binding::Keep;
                if keeps && !self.present().contains_key(&put.key) {
                    return Err(Refusal::KeyNotFound { key: put.key.clone() });
                }
                match put.session {
                    Binding::To(session) if !(around.lives)(session) => Err(Refusal::SessionEnded { session }),
                    _ => Ok(()),
                }
            }
            KeyOp::Delete(delete) => fenced(&delete.fence),
            KeyOp::Read(read) => match read.revision {
                Some(revision) if revision.get() > self.revision() => Err(self.future(revision.get())),
                Some(revision) if revision.get() < self.compacted => {
                    Err(Refusal::Compacted { revision, compacted: Revision(self.compacted) })
                }
                _ => Ok(()),
            },
            KeyOp::Txn(txn) => {
                let succeeded = *decisions.next().unwrap();
                fenced(&txn.fence)?;
                for op in branch(txn, succeeded) {
                    self.check(op, decisions, around)?;
                }
                Ok(())
            }
        }
    }

    fn run<'d>(&self, op: &KeyOp, decisions: &mut impl Iterator<Item = &'d bool>, draft: &mut Draft) -> KeyReply {
        match op {
            KeyOp::Put(put) => draft.put(put),
            KeyOp::Delete(delete) => draft.delete(delete),
            KeyOp::Read(it) => match it.revision {
                Some(revision) => KeyReply::Read(read(&self.past[revision.get() as usize], it)),
                None => KeyReply::Read(read(&draft.all, it)),
            },
            KeyOp::Txn(txn) => {
                let succeeded = *decisions.next().unwrap();
                let ops = branch(txn, succeeded);
                let mut replies = Vec::new();
                for op in ops {
                    replies.push(self.run(op, decisions, draft));
                }
                KeyReply::Txn { succeeded, replies }
            }
        }
    }
}

fn branch(txn: &Txn, succeeded: bool) -> &[KeyOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

/// The keys as a command leaves them.
struct Draft {
    revision: u64,
    all: All,
    changed: Vec<Vec<u8>>,
}

impl Draft {
    fn set(&mut self, key: &[u8], kv: Option<KeyValue>) {
        if !self.changed.iter().any(|it| it == key) {
            self.changed.push(key.to_vec());
        }
        match kv {
            Some(kv) => drop(self.all.insert(key.to_vec(), kv)),
            None => drop(self.all.remove(key)),
        }
    }

    fn put(&mut self, put: &Put) -> KeyReply {
        let old = self.all.get(&put.key).cloned();
        let revision = Revision(self.revision);
        let version = old.as_ref().map_or(1, |kv| kv.version + 1);
        let kv = KeyValue {
            // What a transaction removed before it kept it is empty.
            value: put.value.clone().unwrap_or_else(|| old.as_ref().map_or(vec![], |kv| kv.value.clone())),
            create_revision: old.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version,
            session: match put.session {
                Binding::None => None,
                Binding::To(session) => Some(session),
                Binding::Keep => old.as_ref().and_then(|kv| kv.session),
            },
        };
        self.set(&put.key, Some(kv));
        KeyReply::Put { version, previous: if put.shows_previous { old } else { None } }
    }

    fn delete(&mut self, delete: &Delete) -> KeyReply {
        let found = read(&self.all, &Read::new(delete.keys.clone())).found;
        for it in &found {
            self.set(&it.key, None);
        }
        let deleted = found.len() as u64;
        KeyReply::Deleted { deleted, previous: if delete.shows_previous { found } else { vec![] } }
    }
}

fn read(all: &All, read: &Read) -> Findings {
    let within = |keys: &Keys, key: &[u8]| match keys {
        Keys::One(one) => one == key,
        Keys::Span { from, to } => from.as_slice() <= key && key < to.as_slice(),
        Keys::From(from) => from.as_slice() <= key,
    };
    let mut found: Vec<_> = all.iter().filter(|(key, _)| within(&read.keys, key)).collect();
    let count = found.len() as u64;
    if read.shows == Shows::Count {
        return Findings { found: vec![], count, more: false };
    }
    found.retain(|(_, kv)| read.written.first <= kv.mod_revision && kv.mod_revision <= read.written.last);
    found.retain(|(_, kv)| read.created.first <= kv.create_revision && kv.create_revision <= read.created.last);
    // Stable: what is equal stays in the order of keys, also when the largest come first.
    let rank = |kv: &KeyValue| match read.order.by {
        Field::Key | Field::Value => 0,
        Field::Version => kv.version,
        Field::Created => kv.create_revision.get(),
        Field::Written => kv.mod_revision.get(),
    };
    found.sort_by(|(key, kv), (other_key, other)| {
        let ordering = match read.order.by {
            Field::Key => key.cmp(other_key),
            Field::Value => kv.value.cmp(&other.value),
            Field::Version | Field::Created | Field::Written => rank(kv).cmp(&rank(other)),
        };
        if read.order.descending { ordering.reverse() } else { ordering }
    });
    let limit = if read.limit == 0 { found.len() } else { read.limit as usize };
    let more = found.len() > limit;
    found.truncate(limit);
    let show = |(key, kv): (&Vec<u8>, &KeyValue)| {
        let mut kv = kv.clone();
        if read.shows == Shows::NoValues {
            kv.value.clear();
        }
        Found { key: key.clone(), kv }
    };
    Findings { found: found.into_iter().map(show).collect(), count, more }
}

/// A reply as it is remembered.
pub(crate) fn remembered(reply: KeyReply) -> KeyReply {
    match reply {
        KeyReply::Put { previous: Some(_), .. } => KeyReply::NotKept,
        KeyReply::Deleted { previous, .. } if !previous.is_empty() => KeyReply::NotKept,
        KeyReply::Read(findings) if !findings.found.is_empty() => KeyReply::NotKept,
        KeyReply::Txn { succeeded, replies } => {
            KeyReply::Txn { succeeded, replies: replies.into_iter().map(remembered).collect() }
        }
        reply => reply,
    }
}
