//! Carrying out what was planned: it can no longer fail. All writes of a command have one revision, the next one; a command
//! that writes nothing has none.

use std::collections::BTreeSet;

use palisade_planted::{self as planted, Bug};

use crate::keys::op::{Binding, Delete, Found, KeyOp, KeyReply, KeyValue, Put};
use crate::keys::plan::{self, Room, Step};
use crate::keys::read::{self, ReplyRoom};
use crate::keys::space::Key;
use crate::outcome::{Event, Refusal, Reply};
use crate::{Revision, SessionId, State};

pub(crate) fn apply(state: &mut State, op: &KeyOp, events: &mut Vec<Event>) -> Result<Reply, Refusal> {
    let mut room = Room::default();
    let step = plan::plan(&state.keys, op, &mut room);
    plan::check(state, &step, room)?;
    let mut writer = Writer::new(state, events);
    let reply = writer.run(&step);
    writer.finish();
    Ok(Reply::Keys(reply))
}

/// Removes the keys of a session that has ended, in their order.
pub(crate) fn release(state: &mut State, keys: BTreeSet<Key>, events: &mut Vec<Event>) {
    let mut writer = Writer::new(state, events);
    for key in keys {
        writer.remove(&key);
    }
    writer.finish();
}

struct Writer<'a> {
    state: &'a mut State,
    events: &'a mut Vec<Event>,
    /// Of all that is written.
    revision: Revision,
    wrote: bool,
    room: ReplyRoom,
}

impl<'a> Writer<'a> {
    fn new(state: &'a mut State, events: &'a mut Vec<Event>) -> Writer<'a> {
        let revision = state.revision.next();
        Writer { state, events, revision, wrote: false, room: ReplyRoom::default() }
    }

    fn run(&mut self, step: &Step<'_>) -> KeyReply {
        match step {
            Step::Put(put) => self.put(put),
            Step::Delete(delete) => self.delete(delete),
            Step::Read(read) => KeyReply::Read(read::find(&self.state.keys.lineages, read, &mut self.room)),
            Step::Txn { succeeded, steps, .. } => {
                let left_out = usize::from(planted::is(Bug::HalfTransaction) && steps.len() > 1);
                let done = steps.iter().take(steps.len() - left_out);
                KeyReply::Txn { succeeded: *succeeded, replies: done.map(|step| self.run(step)).collect() }
            }
        }
    }

    fn put(&mut self, put: &Put) -> KeyReply {
        let old = self.state.keys.get(&put.key);
        let was = old.and_then(|old| old.session);
        let session = match put.session {
            Binding::None => None,
            Binding::To(session) => Some(session),
            Binding::Keep if planted::is(Bug::KeepLetsGo) => None,
            Binding::Keep => was,
        };
        let kept = || old.map(|old| old.value.clone()).unwrap_or_default();
        let (create_revision, version) = old.map_or((self.revision, 1), |old| (old.create_revision, old.version + 1));
        let kv = KeyValue {
            value: put.value.clone().unwrap_or_else(kept),
            create_revision,
            mod_revision: self.revision,
            version,
            session,
        };
        let shown = old.filter(|_| put.shows_previous);
        let reply = match shown {
            Some(old) if !self.room.take(&put.key, &old.value) => KeyReply::NotKept,
            previous => KeyReply::Put { version, previous: previous.cloned() },
        };
        self.change(&put.key, was, Some(kv));
        reply
    }

    fn delete(&mut self, delete: &Delete) -> KeyReply {
        let keys: Vec<Key> = self.state.keys.range(&delete.keys, None).map(|(key, _)| key.clone()).collect();
        let deleted = keys.len() as u64;
        let mut previous = Some(Vec::new());
        for key in keys {
            if delete.shows_previous {
                let kv = self.state.keys.get(&key).expect("it was found above");
                let fits = self.room.take(&key, &kv.value);
                previous = previous.filter(|_| fits);
                previous.iter_mut().for_each(|all| all.push(Found { key: key.to_vec(), kv: kv.clone() }));
            }
            self.remove(&key);
        }
        previous.map_or(KeyReply::NotKept, |previous| KeyReply::Deleted { deleted, previous })
    }

    /// Removes a key that is there.
    fn remove(&mut self, key: &[u8]) {
        let old = self.state.keys.get(key).expect("a key that is removed is there");
        self.change(key, old.session, None);
    }

    /// Makes the change, and lets the sessions of before and after know which keys are theirs.
    fn change(&mut self, key: &[u8], was: Option<SessionId>, kv: Option<KeyValue>) {
        let (is, version) = (kv.as_ref().and_then(|kv| kv.session), kv.as_ref().map(|kv| kv.version));
        let key = self.state.keys.change(key, self.revision, kv);
        if was != is {
            // A session that is about to end has let go of its keys already.
            if let Some(session) = was.and_then(|id| self.state.sessions.get_mut(&id)) {
                session.keys.remove(&key);
            }
            if let Some(id) = is {
                let session = self.state.sessions.get_mut(&id).expect("a key is bound to a live session only");
                session.keys.insert(key.clone());
            }
        }
        self.wrote = true;
        self.events.push(Event::KeyChanged { key: key.to_vec(), revision: self.revision, version });
    }

    fn finish(self) {
        if self.wrote {
            self.state.revision = self.revision;
        }
    }
}
