//! Sessions: opened, attached, ended. Who is alive is decided elsewhere (by the store leader's clock); here an end is a
//! command, conditional on the attach generation that its proposer saw. Ending a session ends all it holds and all its
//! candidacies in the same command.

use crate::command::{EndReason, OnDisconnect};
use crate::limits::{MAX_SESSIONS, SESSIONS};
use crate::memory::Memory;
use crate::outcome::{Event, Refusal, Reply, Waiting};
use crate::state::Session;
use crate::{AttachGeneration, SessionId, State, elections};

pub(crate) fn open(state: &mut State, ttl_ms: u64, on_disconnect: OnDisconnect) -> Result<Reply, Refusal> {
    if state.session_count() >= MAX_SESSIONS {
        return Err(Refusal::Limit { what: SESSIONS, limit: MAX_SESSIONS });
    }
    let id = state.last_session.next();
    let attach = AttachGeneration(1);
    let session = Session { ttl_ms, on_disconnect, attach, candidacies: Default::default(), memory: Memory::default() };
    state.last_session = id;
    let twice = state.sessions.insert(id, session);
    assert!(twice.is_none(), "session {id} was opened twice");
    Ok(Reply::SessionOpened { session: id, attach })
}

pub(crate) fn attach(state: &mut State, id: SessionId) -> Result<Reply, Refusal> {
    let session = state.sessions.get_mut(&id).ok_or(Refusal::SessionEnded { session: id })?;
    session.attach = session.attach.next();

    let session = &state.sessions[&id];
    let (mut held, mut waiting) = (Vec::new(), Vec::new());
    for (&serial, candidacy) in &session.candidacies {
        let leader = state.leader(&candidacy.election).filter(|grant| (grant.session, grant.serial) == (id, serial));
        match leader {
            Some(grant) => held.push(grant.clone()),
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
    })
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
    let session = state.sessions.remove(&id).expect("it was found above");
    let mut vacated = elections::Vacated::default();
    for (serial, candidacy) in session.candidacies {
        elections::end_candidacy(state, id, serial, &candidacy, why, &mut vacated);
    }
    events.push(Event::SessionEnded { session: id, why });
    elections::fill(state, vacated, at_unix_ms, events);
    Ok(Reply::SessionEnded)
}
