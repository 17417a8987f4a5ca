//! What an operation on keys will do, decided and checked before anything is done: so a transaction is whole or nothing. As in
//! etcd, all conditions, also those of transactions within, are judged by what is there before the first write.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use palisade_fence::Fence;
use palisade_planted::{self as planted, Bug};

use crate::keys::op::{Binding, Compare, Delete, KeyOp, KeyValue, Keys, Operand, Put, Read, Relation};
use crate::keys::read;
use crate::keys::space::KeySpace;
use crate::limits::{
    KEY_SPACE_BYTES, KEYS, LOOKED_AT, MAX_KEY_SPACE_BYTES, MAX_KEYS, MAX_LOOKED_AT, MAX_REMOVED, MAX_SESSION_KEYS,
    REMOVED, SESSION_KEYS,
};
use crate::outcome::Refusal;
use crate::{SessionId, State};

/// What will be done.
pub(crate) enum Step<'a> {
    Put(&'a Put),
    Delete(&'a Delete),
    Read(&'a Read),
    Txn { succeeded: bool, fence: Option<&'a Fence>, steps: Vec<Step<'a>> },
}

/// Decides what will be done. Once more keys are looked at than a command may, conditions count as not met, and [`check`] refuses.
pub(crate) fn plan<'a>(keys: &KeySpace, op: &'a KeyOp, room: &mut Room) -> Step<'a> {
    match op {
        KeyOp::Put(put) => Step::Put(put),
        KeyOp::Delete(delete) => Step::Delete(delete),
        KeyOp::Read(read) => Step::Read(read),
        KeyOp::Txn(txn) => {
            let mut hold = |compare: &Compare| room.looks(keys, &compare.keys) && holds(keys, compare);
            let succeeded = txn.compare.iter().all(&mut hold) || planted::is(Bug::ConditionsIgnored);
            let ops = if succeeded { &txn.success } else { &txn.failure };
            let steps = ops.iter().map(|op| plan(keys, op, room)).collect();
            Step::Txn { succeeded, fence: txn.fence.as_ref(), steps }
        }
    }
}

/// Whether all of it can be done, with what planning it has taken already.
pub(crate) fn check(state: &State, step: &Step<'_>, mut room: Room) -> Result<(), Refusal> {
    check_step(state, step, &mut room)?;
    room.check(state)
}

/// What a command will take. What the same transaction removes is not counted as free: it is still there when it begins.
#[derive(Default)]
pub(crate) struct Room {
    keys: u64,
    bytes: u64,
    of_sessions: BTreeMap<SessionId, u64>,
    removed: u64,
    looked_at: u64,
}

fn check_step(state: &State, step: &Step<'_>, room: &mut Room) -> Result<(), Refusal> {
    match step {
        Step::Put(put) => {
            fenced(state, put.fence.as_ref())?;
            check_put(state, put, room)
        }
        Step::Delete(delete) => {
            fenced(state, delete.fence.as_ref())?;
            if !room.looks(&state.keys, &delete.keys) {
                return Ok(()); // refused in the end, and not counted any further
            }
            let most = MAX_REMOVED as usize + 1;
            room.removed += state.keys.range(&delete.keys, None).take(most).count() as u64;
            Ok(())
        }
        Step::Read(read) => {
            room.looks(&state.keys, &read.keys);
            read::check(state.revision, state.keys.compacted, read)
        }
        Step::Txn { fence, steps, .. } => {
            fenced(state, *fence)?;
            steps.iter().try_for_each(|step| check_step(state, step, room))
        }
    }
}

fn check_put(state: &State, put: &Put, room: &mut Room) -> Result<(), Refusal> {
    let old = state.keys.get(&put.key);
    if old.is_none() && (put.value.is_none() || put.session == Binding::Keep) {
        return Err(Refusal::KeyNotFound { key: put.key.clone() });
    }
    if let Binding::To(session) = put.session {
        if !state.sessions.contains_key(&session) {
            return Err(Refusal::SessionEnded { session });
        }
        if old.is_none_or(|old| old.session != Some(session)) {
            *room.of_sessions.entry(session).or_default() += 1;
        }
    }
    let bytes = |value: &[u8]| (put.key.len() + value.len()) as u64;
    let (before, after) = (old.map(|old| bytes(&old.value)), put.value.as_ref().map(|value| bytes(value)));
    room.keys += u64::from(old.is_none());
    room.bytes += after.unwrap_or(0).saturating_sub(before.unwrap_or(0));
    Ok(())
}

impl Room {
    /// Counts the keys of a range. Whether there was room for them.
    fn looks(&mut self, keys: &KeySpace, range: &Keys) -> bool {
        self.looked_at += keys.looked_at(range, MAX_LOOKED_AT + 1 - self.looked_at.min(MAX_LOOKED_AT));
        self.looked_at <= MAX_LOOKED_AT
    }

    fn check(&self, state: &State) -> Result<(), Refusal> {
        if state.keys.count + self.keys > MAX_KEYS {
            return Err(Refusal::Limit { what: KEYS, limit: MAX_KEYS });
        }
        if self.bytes > 0 && state.keys.bytes + self.bytes > MAX_KEY_SPACE_BYTES {
            return Err(Refusal::Limit { what: KEY_SPACE_BYTES, limit: MAX_KEY_SPACE_BYTES });
        }
        if self.looked_at > MAX_LOOKED_AT {
            return Err(Refusal::Limit { what: LOOKED_AT, limit: MAX_LOOKED_AT });
        }
        if self.removed > MAX_REMOVED {
            return Err(Refusal::Limit { what: REMOVED, limit: MAX_REMOVED });
        }
        let full = |(id, more): (&SessionId, &u64)| state.sessions[id].keys.len() as u64 + more > MAX_SESSION_KEYS;
        if self.of_sessions.iter().any(full) {
            return Err(Refusal::Limit { what: SESSION_KEYS, limit: MAX_SESSION_KEYS });
        }
        Ok(())
    }
}

/// A write under a fence is the holder's, or nobody's.
fn fenced(state: &State, fence: Option<&Fence>) -> Result<(), Refusal> {
    let Some(fence) = fence else { return Ok(()) };
    if planted::is(Bug::SkipFenceCheck) {
        return Ok(());
    }
    let current = state.leader(&fence.election).map(|grant| grant.token);
    if current == Some(fence.token) {
        Ok(())
    } else {
        Err(Refusal::StaleToken { election: fence.election.clone(), current })
    }
}

fn holds(keys: &KeySpace, compare: &Compare) -> bool {
    let mut found = keys.range(&compare.keys, None).peekable();
    if found.peek().is_none() {
        return meets(None, compare);
    }
    found.all(|(_, kv)| meets(Some(kv), compare))
}

fn meets(kv: Option<&KeyValue>, compare: &Compare) -> bool {
    let number = |of: fn(&KeyValue) -> u64, operand: u64| kv.map_or(0, of).cmp(&operand);
    let ordering = match &compare.operand {
        Operand::Version(version) => number(|kv| kv.version, *version),
        Operand::Created(revision) => number(|kv| kv.create_revision.get(), revision.get()),
        Operand::Written(revision) => number(|kv| kv.mod_revision.get(), revision.get()),
        Operand::Session(session) => kv.and_then(|kv| kv.session).cmp(session),
        Operand::Value(value) => match kv {
            Some(kv) => kv.value.cmp(value),
            None => return false,
        },
    };
    match compare.relation {
        Relation::Equal => ordering == Ordering::Equal,
        Relation::NotEqual => ordering != Ordering::Equal,
        Relation::Greater => ordering == Ordering::Greater,
        Relation::Less => ordering == Ordering::Less,
    }
}
