//! Keys with etcd's counters. A fence is checked here, in the step that writes: not before it, by somebody else.

use palisade_fence::Fence;
use palisade_planted::{self as planted, Bug};

use crate::limits::{KEY_SPACE_BYTES, KEYS, MAX_KEY_SPACE_BYTES, MAX_KEYS};
use crate::outcome::{Event, Refusal, Reply};
use crate::state::KeyValue;
use crate::{Revision, State};

pub(crate) fn put(
    state: &mut State,
    key: &[u8],
    value: &[u8],
    fence: Option<&Fence>,
    events: &mut Vec<Event>,
) -> Result<Reply, Refusal> {
    check(state, fence)?;
    let old = state.keys.get(key);
    if old.is_none() && state.key_count() >= MAX_KEYS {
        return Err(Refusal::Limit { what: KEYS, limit: MAX_KEYS });
    }
    let freed = old.map_or(0, |kv| (key.len() + kv.value.len()) as u64);
    let key_bytes = state.key_bytes - freed + (key.len() + value.len()) as u64;
    if key_bytes > MAX_KEY_SPACE_BYTES {
        return Err(Refusal::Limit { what: KEY_SPACE_BYTES, limit: MAX_KEY_SPACE_BYTES });
    }

    let revision = state.revision.next();
    let (create_revision, version) = old.map_or((revision, 1), |kv| (kv.create_revision, kv.version + 1));
    state.revision = revision;
    state.key_bytes = key_bytes;
    let kv = KeyValue { value: value.to_vec(), create_revision, mod_revision: revision, version };
    state.keys.insert(key.to_vec(), kv);
    events.push(changed(key, revision, Some(version)));
    Ok(Reply::Put { version })
}

pub(crate) fn delete(
    state: &mut State,
    key: &[u8],
    fence: Option<&Fence>,
    events: &mut Vec<Event>,
) -> Result<Reply, Refusal> {
    check(state, fence)?;
    let Some(old) = state.keys.remove(key) else { return Ok(Reply::Deleted { deleted: 0 }) };
    state.revision = state.revision.next();
    let freed = (key.len() + old.value.len()) as u64;
    assert!(state.key_bytes >= freed, "the key space holds what is in it");
    state.key_bytes -= freed;
    events.push(changed(key, state.revision, None));
    Ok(Reply::Deleted { deleted: 1 })
}

/// A write under a fence is the holder's, or nobody's.
fn check(state: &State, fence: Option<&Fence>) -> Result<(), Refusal> {
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

fn changed(key: &[u8], revision: Revision, version: Option<u64>) -> Event {
    Event::KeyChanged { key: key.to_vec(), revision, version }
}
