//! Sessions: opened, attached, ended. Who is alive is decided elsewhere (by the store leader's clock); here an end is a
//! command, conditional on the attach generation that its proposer saw. Ending a session ends all it holds and all its
//! candidacies in the same command.

use std::collections::{BTreeMap, BTreeSet};

use palisade_planted::{self as planted, Bug};

use crate::command::{EndReason, Guard, OnDisconnect};
use crate::elections::Vacated;
use crate::limits::{MAX_SESSIONS, SESSIONS};
use crate::memory::Memory;
use crate::outcome::{Asked, Event, Refusal, Reply, Waiting};
use crate::state::Session;
use crate::{AttachGeneration, Serial, SessionId, State, elections, handover, keys};

pub(crate) fn open(
    state: &mut State,
    given: Option<SessionId>,
    ttl_ms: u64,
    on_disconnect: OnDisconnect,
) -> Result<Reply, Refusal> {
    if state.session_count() >= MAX_SESSIONS {
        return Err(Refusal::Limit { what: SESSIONS, limit: MAX_SESSIONS });
    }
    let (id, start) = match given {
        None => {
            state.last_session = state.last_session.next();
            (state.last_session, 1)
        }
        Some(id) if state.sessions.contains_key(&id) => return Err(Refusal::SessionExists { session: id }),
        // The id may have been in use before. Attach generations and serials that start at the present `seq` were not, so
        // nothing that was said to the earlier session can touch this one.
        Some(id) => {
            assert!(id.is_given(), "the id {id} is the store's to choose");
            (id, state.seq.get())
        }
    };
    let attach = AttachGeneration(start);
    let session = Session {
        ttl_ms,
        on_disconnect,
        attach,
        candidacies: BTreeMap::new(),
        wish: None,
        keys: BTreeSet::new(),
        memory: Memory::from(Serial(start)),
    };
    let twice = state.sessions.insert(id, session);
    assert!(twice.is_none(), "session {id} was opened twice");
    Ok(Reply::SessionOpened { session: id, attach })
}

pub(crate) fn attach(state: &mut State, id: SessionId) -> Result<Reply, Refusal> {
    let session = state.sessions.get_mut(&id).ok_or(Refusal::SessionEnded { session: id })?;
    session.attach = session.attach.next();

    let session = &state.sessions[&id];
    let (mut held, mut waiting, mut leaderships) = (Vec::new(), Vec::new(), Vec::new());
    for (&serial, candidacy) in &session.candidacies {
        let election = &state.elections[&candidacy.election];
        match election.leader.as_ref().filter(|grant| (grant.session, grant.serial) == (id, serial)) {
            Some(grant) => {
                held.push(grant.clone());
                leaderships.extend(election.asked.clone().map(|asked| (serial, asked)));
            }
            None => waiting.push(Waiting {
                election: candidacy.election.clone(),
                candidate: candidacy.candidate.clone(),
                serial,
            }),
        }
    }
    assert_eq!(held.len() + waiting.len(), session.candidacies.len());
    Ok(Reply::Attached {
        session: id,
        attach: session.attach,
        ttl_ms: session.ttl_ms,
        on_disconnect: session.on_disconnect,
        held,
        waiting,
        asked: Asked { session: session.wish, leaderships },
    })
}

/// Somebody wants the session to end: it ends at once, unless its client has to be asked.
pub(crate) fn close(
    state: &mut State,
    id: SessionId,
    guard: Guard,
    at_unix_ms: u64,
    events: &mut Vec<Event>,
) -> Result<Reply, Refusal> {
    match handover::ask_to_close(state, id, guard, events)? {
        Some(requested) => Ok(requested),
        None => end(state, id, EndReason::Removed, None, at_unix_ms, events),
    }
}

pub(crate) fn end(
    state: &mut State,
    id: SessionId,
    why: EndReason,
    only_if: Option<AttachGeneration>,
    at_unix_ms: u64,
    events: &mut Vec<Event>,
) -> Result<Reply, Refusal> {
    let session = state.sessions.get(&id).ok_or(Refusal::SessionEnded { session: id })?;
    if let Some(seen) = only_if
        && seen != session.attach
    {
        return Err(Refusal::AttachChanged { session: id, attach: session.attach });
    }

    // First end everything that ends, in all queues; only then fill what became vacant.
    let mut vacated = Vacated::default();
    take(state, id, why, &mut vacated, events);
    elections::fill(state, vacated, at_unix_ms, events);
    Ok(Reply::SessionEnded)
}

/// Takes a live session out of the state, with all that it had: its candidacies, and the keys that are bound to it. Fills
/// nothing.
pub(crate) fn take(state: &mut State, id: SessionId, why: EndReason, vacated: &mut Vacated, events: &mut Vec<Event>) {
    let session = state.sessions.remove(&id).expect("only a live session is taken out");
    let kept = usize::from(planted::is(Bug::EndedSessionKeepsLeadership));
    for (serial, candidacy) in session.candidacies.into_iter().skip(kept) {
        elections::end_candidacy(state, id, serial, &candidacy, why, vacated);
    }
    state.answers.remove(session.memory.answers().map(|(_, answer)| answer));
    events.push(Event::SessionEnded { session: id, why });
    keys::release(state, session.keys, events);
}
