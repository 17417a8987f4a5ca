//! Keys as they must be, made from what was asked and from nothing else: a model that shares no code with the product. Every
//! version that a key ever had is kept.

use std::collections::BTreeMap;

use palisade_coord_core::keys::op::{Binding, Compare, Operand, Put, Relation};
use palisade_coord_core::{Event, KeyOp, KeyReply, Keys, Op, Reply};

use crate::facts::{Applied, FoundKey, Restoration, WatchedKey};

/// What a key has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Has {
    pub(super) value: Vec<u8>,
    pub(super) create_revision: u64,
    pub(super) mod_revision: u64,
    pub(super) version: u64,
    pub(super) session: u64,
}

#[derive(Default)]
pub(super) struct Keyspace {
    /// By key and revision; `None`: it was removed then.
    keys: BTreeMap<Vec<u8>, BTreeMap<u64, Option<Has>>>,
    /// By revision: what changed, in the order in which its command changed it.
    changed: BTreeMap<u64, Vec<Vec<u8>>>,
    revision: u64,
    /// By `seq`: the revision from there on.
    revisions: BTreeMap<u64, u64>,
    /// By `seq`: what was compacted from there on.
    compacted: BTreeMap<u64, u64>,
    /// What a restore itself changes is told to nobody.
    begins: Option<u64>,
}

impl Has {
    /// As whoever reads it sees it.
    pub(super) fn found(&self, key: &[u8]) -> FoundKey {
        FoundKey {
            key: String::from_utf8_lossy(key).into_owned(),
            value: String::from_utf8_lossy(&self.value).into_owned(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            session: self.session,
        }
    }
}

impl Keyspace {
    /// All is as it was at the backup, but for what is bound to sessions, which are gone; the past cannot be read any more.
    pub(super) fn restored(&mut self, restoration: &Restoration) {
        let Restoration { backup, begins, .. } = restoration;
        self.keys.values_mut().for_each(|had| had.retain(|revision, _| *revision <= backup.revision));
        self.changed.retain(|revision, _| *revision <= backup.revision);
        self.revisions.retain(|seq, _| *seq <= backup.seq);
        self.compacted.retain(|seq, _| *seq <= backup.seq);
        let of_sessions = self.now().filter(|(_, has)| has.session != 0);
        let gone: Vec<_> = of_sessions.map(|(key, _)| key.clone()).collect();
        self.revision = begins.revision;
        self.begins = Some(begins.revision);
        self.revisions.insert(begins.seq, begins.revision);
        self.compacted.insert(begins.seq, begins.revision);
        for key in gone {
            self.keys.entry(key).or_default().insert(begins.revision, None);
        }
    }

    /// Does what a command asked for, if it was done, and compares what that changed with what the command is said to have
    /// changed.
    pub(super) fn apply(&mut self, applied: &Applied) -> Result<(), String> {
        let seq = applied.seq;
        let mut changes = Vec::new();
        let first = applied.outcome.seq.get() == seq;
        match (&applied.command.op, &applied.outcome.reply) {
            (Op::Keys(op), Ok(Reply::Keys(reply))) if first => {
                let mut writes = Vec::new();
                self.choose(op, reply, &mut writes).map_err(|why| format!("at seq {seq} {why}"))?;
                writes.into_iter().for_each(|write| self.write(write, &mut changes));
            }
            (Op::Compact { revision }, Ok(_)) if first => {
                self.compacted.insert(seq, revision.get());
            }
            _ => {}
        }
        for event in &applied.outcome.events {
            if let Event::SessionEnded { session, .. } = event {
                let of_it = |has: &Has| has.session == session.get();
                let bound: Vec<_> = self.now().filter(|(_, has)| of_it(has)).map(|(key, _)| key.clone()).collect();
                bound.into_iter().for_each(|key| self.change(key, None, &mut changes));
            }
        }
        let told = applied.outcome.events.iter().filter_map(|event| match event {
            Event::KeyChanged { key, version, .. } => Some((key.clone(), *version)),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        self.revision += u64::from(!changes.is_empty());
        if !changes.is_empty() {
            self.changed.insert(self.revision, changes.iter().map(|(key, _)| key.clone()).collect());
        }
        self.revisions.insert(seq, self.revision);
        if told != changes {
            return Err(format!("at seq {seq} {} are said to have changed; it was {}", list(&told), list(&changes)));
        }
        let revision = applied.outcome.revision.get();
        if first && revision != self.revision {
            return Err(format!("the revision after seq {seq} is said to be {revision}, and is {}", self.revision));
        }
        Ok(())
    }

    /// What keys there are under a prefix after a revision.
    pub(super) fn at<'a>(
        &'a self,
        prefix: &'a [u8],
        revision: u64,
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Has)> + 'a {
        let under = self.keys.range(prefix.to_vec()..).take_while(move |(key, _)| key.starts_with(prefix));
        under.filter_map(move |(key, had)| Some((key, had.range(..=revision).next_back()?.1.as_ref()?)))
    }

    /// What was changed under a prefix by revisions from the first one on and before another, by revision and in order.
    pub(super) fn changes(&self, prefix: &str, first: u64, until: u64) -> Vec<(u64, Vec<WatchedKey>)> {
        let one = |revision: u64, key: &Vec<u8>| WatchedKey {
            key: String::from_utf8_lossy(key).into_owned(),
            value: self.keys[key][&revision]
                .as_ref()
                .map(|has| (String::from_utf8_lossy(&has.value).into_owned(), has.version)),
        };
        let of = |(revision, keys): (&u64, &Vec<Vec<u8>>)| {
            let under = keys.iter().filter(|key| key.starts_with(prefix.as_bytes()));
            let changes: Vec<_> = under.map(|key| one(*revision, key)).collect();
            (!changes.is_empty()).then_some((*revision, changes))
        };
        self.changed.range(first..until.max(first)).filter_map(of).collect()
    }

    /// The newest revision.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The first revision that can be read now.
    pub(super) fn compacted(&self) -> u64 {
        self.compacted.values().next_back().copied().unwrap_or(0)
    }

    /// What is compacted at a revision can still be watched from that revision on; what a restore begins with, from the next one on.
    pub(super) fn watchable(&self) -> u64 {
        self.compacted().max(self.begins.map_or(0, |begins| begins + 1))
    }

    /// The revision after a `seq`.
    pub(super) fn revision_at(&self, seq: u64) -> u64 {
        self.revisions.range(..=seq).next_back().map_or(0, |(_, revision)| *revision)
    }

    /// The first revision that could be read then.
    pub(super) fn compacted_at(&self, seq: u64) -> u64 {
        self.compacted.range(..=seq).next_back().map_or(0, |(_, revision)| *revision)
    }

    fn now(&self) -> impl Iterator<Item = (&Vec<u8>, &Has)> {
        self.keys.iter().filter_map(|(key, had)| Some((key, had.values().next_back()?.as_ref()?)))
    }

    fn get(&self, key: &[u8]) -> Option<&Has> {
        self.keys.get(key)?.values().next_back()?.as_ref()
    }

    /// The writes of the branches that are to be done, which the reply must be about.
    fn choose<'a>(&self, op: &'a KeyOp, reply: &KeyReply, writes: &mut Vec<&'a KeyOp>) -> Result<(), String> {
        match (op, reply) {
            (KeyOp::Txn(txn), KeyReply::Txn { succeeded, replies }) => {
                let holds = txn.compare.iter().all(|compare| self.holds(compare));
                if holds != *succeeded {
                    return Err(format!("the conditions {:?} are said to hold: {succeeded}", txn.compare));
                }
                let branch = if holds { &txn.success } else { &txn.failure };
                if branch.len() != replies.len() {
                    return Err(format!("{} of {} operations were done", replies.len(), branch.len()));
                }
                branch.iter().zip(replies).try_for_each(|(op, reply)| self.choose(op, reply, writes))
            }
            (KeyOp::Txn(_), reply) => Err(format!("a transaction was answered {reply:?}")),
            (KeyOp::Read(_), _) => Ok(()),
            (KeyOp::Put(_) | KeyOp::Delete(_), _) => {
                writes.push(op);
                Ok(())
            }
        }
    }

    fn write(&mut self, op: &KeyOp, changes: &mut Vec<Changed>) {
        match op {
            KeyOp::Put(put) => self.put(put, changes),
            KeyOp::Delete(delete) => {
                let gone: Vec<_> =
                    self.now().filter(|(key, _)| is_of(&delete.keys, key)).map(|(key, _)| key.clone()).collect();
                gone.into_iter().for_each(|key| self.change(key, None, changes));
            }
            KeyOp::Read(_) | KeyOp::Txn(_) => {}
        }
    }

    fn put(&mut self, put: &Put, changes: &mut Vec<Changed>) {
        let (next, had) = (self.revision + 1, self.get(&put.key).cloned());
        let has = Has {
            value: put.value.clone().or_else(|| had.as_ref().map(|had| had.value.clone())).unwrap_or_default(),
            create_revision: had.as_ref().map_or(next, |had| had.create_revision),
            mod_revision: next,
            version: had.as_ref().map_or(0, |had| had.version) + 1,
            session: match put.session {
                Binding::None => 0,
                Binding::To(session) => session.get(),
                Binding::Keep => had.map_or(0, |had| had.session),
            },
        };
        self.change(put.key.clone(), Some(has), changes);
    }

    fn change(&mut self, key: Vec<u8>, has: Option<Has>, changes: &mut Vec<Changed>) {
        changes.push((key.clone(), has.as_ref().map(|has| has.version)));
        self.keys.entry(key).or_default().insert(self.revision + 1, has);
    }

    fn holds(&self, compare: &Compare) -> bool {
        let all: Vec<_> = self.now().filter(|(key, _)| is_of(&compare.keys, key)).map(|(_, has)| Some(has)).collect();
        let none = vec![None];
        if all.is_empty() { &none } else { &all }.iter().all(|has| meets(*has, compare))
    }
}

/// A key, and its version if it is there.
type Changed = (Vec<u8>, Option<u64>);

fn is_of(keys: &Keys, key: &[u8]) -> bool {
    match keys {
        Keys::One(one) => one == key,
        Keys::Span { from, to } => key >= from.as_slice() && key < to.as_slice(),
        Keys::From(from) => key >= from.as_slice(),
    }
}

fn meets(has: Option<&Has>, compare: &Compare) -> bool {
    let ordering = match &compare.operand {
        Operand::Version(version) => has.map_or(0, |has| has.version).cmp(version),
        Operand::Created(revision) => has.map_or(0, |has| has.create_revision).cmp(&revision.get()),
        Operand::Written(revision) => has.map_or(0, |has| has.mod_revision).cmp(&revision.get()),
        Operand::Session(session) => has.map_or(0, |has| has.session).cmp(&session.map_or(0, |it| it.get())),
        Operand::Value(value) => match has {
            Some(has) => has.value.cmp(value),
            None => return false,
        },
    };
    match compare.relation {
        Relation::Equal => ordering.is_eq(),
        Relation::NotEqual => ordering.is_ne(),
        Relation::Greater => ordering.is_gt(),
        Relation::Less => ordering.is_lt(),
    }
}

fn list(changes: &[Changed]) -> String {
    let one = |(key, version): &Changed| format!("{} ({version:?})", String::from_utf8_lossy(key));
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}
