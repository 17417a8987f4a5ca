//! The hub: counts the command, asks the memory of answers, and hands the operation to the file that knows it.
//! It decides nothing about sessions, elections or keys itself.

use crate::command::{Command, Op, RequestId};
use crate::memory::{Answer, Recall};
use crate::outcome::{Event, Outcome, Refusal, Reply};
use crate::{Serial, State, elections, fingerprint, keys, sessions};

/// Applies one command. Total and infallible: a refused command is an outcome, and it changes nothing but `seq` and the
/// memory of answers.
pub fn apply(state: &mut State, command: &Command) -> Outcome {
    let before = (state.seq, state.revision, state.last_token);
    state.seq = state.seq.next();

    // First of all: what was asked before gets the answer it had.
    let identity = identity(command);
    let fingerprint = identity.map(|_| fingerprint::fingerprint(&command.op));
    if let (Some(id), Some(fingerprint)) = (identity, fingerprint)
        && let Some(outcome) = recall(state, &command.op, id, fingerprint)
    {
        return outcome;
    }

    let mut events = Vec::new();
    let reply = dispatch(state, command, &mut events);
    assert!(reply.is_ok() || events.is_empty(), "a refused command changes nothing: {reply:?} {events:?}");
    let outcome = Outcome { seq: state.seq, revision: state.revision, reply, events };

    if let (Some(id), Some(fingerprint)) = (identity, fingerprint) {
        remember(state, id, fingerprint, &outcome);
    }
    assert_eq!(state.seq, before.0.next(), "every command counts once");
    assert!(state.revision == before.1 || state.revision == before.1.next(), "a command is one revision at most");
    assert!(state.last_token >= before.2, "tokens never go back");
    outcome
}

fn dispatch(state: &mut State, command: &Command, events: &mut Vec<Event>) -> Result<Reply, Refusal> {
    let at = command.at_unix_ms;
    match &command.op {
        Op::Found { cluster } => match state.cluster {
            Some(_) => Err(Refusal::AlreadyFounded),
            None => {
                state.cluster = Some(*cluster);
                Ok(Reply::Founded)
            }
        },
        Op::OpenSession { ttl_ms, on_disconnect } => sessions::open(state, *ttl_ms, *on_disconnect),
        Op::Attach { session } => sessions::attach(state, *session),
        Op::EndSession { session, why, only_if } => sessions::end(state, *session, *why, *only_if, at, events),
        Op::Campaign { session, serial, election, candidate, value, priority } => {
            let entry = elections::Entry { session: *session, serial: *serial, candidate, value, priority: *priority };
            elections::campaign(state, election, entry, at, events)
        }
        Op::Proclaim { election, token, value } => elections::proclaim(state, election, *token, value, events),
        Op::Resign { election, token, by, force } => {
            elections::resign(state, election, *token, *by, *force, at, events)
        }
        Op::Put { key, value, fence } => keys::put(state, key, value, fence.as_ref(), events),
        Op::Delete { key, fence } => keys::delete(state, key, fence.as_ref(), events),
    }
}

/// Under which id the answer is remembered. A campaign is identified by its own session and serial; opening, attaching and
/// ending a session are harmless to repeat, and their answers are not small.
fn identity(command: &Command) -> Option<RequestId> {
    match &command.op {
        Op::Campaign { session, serial, .. } => {
            Some(RequestId { session: *session, serial: *serial, acked_below: Serial(0) })
        }
        Op::Proclaim { .. } | Op::Resign { .. } | Op::Put { .. } | Op::Delete { .. } => command.request,
        Op::Found { .. } | Op::OpenSession { .. } | Op::Attach { .. } | Op::EndSession { .. } => None,
    }
}

/// The outcome of a command that must not be applied, because it was or may have been before.
fn recall(state: &State, op: &Op, id: RequestId, fingerprint: u64) -> Option<Outcome> {
    let fresh = |reply| Outcome { seq: state.seq, revision: state.revision, reply, events: Vec::new() };
    let is_campaign = matches!(op, Op::Campaign { .. });
    let Some(session) = state.sessions.get(&id.session) else {
        // Whatever a campaign did has ended with its session; another write may have taken effect.
        return (!is_campaign).then(|| fresh(Err(Refusal::Forgotten { serial: id.serial })));
    };
    if is_campaign && session.candidacies.contains_key(&id.serial) {
        return None; // it lives, and tells its own state
    }
    match session.memory.recall(id.serial) {
        Recall::New => None,
        Recall::Forgotten => Some(fresh(Err(Refusal::Forgotten { serial: id.serial }))),
        Recall::Known(answer) if answer.fingerprint != fingerprint => {
            Some(fresh(Err(Refusal::SerialReused { serial: id.serial })))
        }
        // A campaign that succeeded and does not stand any more: its serial names a candidacy that has ended, and a late
        // copy must not bring it back.
        Recall::Known(Answer { reply: Ok(Reply::Campaigned { .. }), .. }) => {
            Some(fresh(Err(Refusal::SerialReused { serial: id.serial })))
        }
        Recall::Known(answer) => Some(Outcome {
            seq: answer.seq,
            revision: answer.revision,
            reply: answer.reply.clone(),
            events: Vec::new(),
        }),
    }
}

fn remember(state: &mut State, id: RequestId, fingerprint: u64, outcome: &Outcome) {
    let Some(session) = state.sessions.get_mut(&id.session) else { return };
    session.memory.forget_below(id.acked_below.min(id.serial));
    if session.candidacies.contains_key(&id.serial) && session.memory.recall(id.serial) != Recall::New {
        return; // a campaign that was repeated while it lives: remembered, or forgotten, by the first
    }
    let reply = match &outcome.reply {
        Ok(Reply::Campaigned { .. }) => Ok(Reply::Campaigned { grant: None }), // the candidacy itself tells the rest
        reply => reply.clone(),
    };
    session.memory.remember(id.serial, Answer { fingerprint, seq: outcome.seq, revision: outcome.revision, reply });
}
