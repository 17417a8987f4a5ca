//! The hub: counts the command, asks the memory of answers, and hands the operation to the file that knows it.
//! It decides nothing about sessions, elections or keys itself.

use crate::command::{Command, Op};
use crate::handover::{Asker, Effects};
use crate::outcome::{Event, Outcome, Refusal, Reply};
use crate::{State, elections, handover, history, keys, level, requests, sessions};

/// Applies one command. Total and infallible: a refused command is an outcome, and it changes nothing but `seq` and the
/// memory of answers.
pub fn apply(state: &mut State, command: &Command) -> Outcome {
    let before = (state.seq, state.revision, state.last_token);
    state.seq = state.seq.next();

    // First of all: what was asked before gets the answer it had.
    let known = requests::known(command);
    if let Some(outcome) = known.as_ref().and_then(|known| requests::recall(state, known)) {
        return outcome;
    }

    let mut events = Vec::new();
    let reply = dispatch(state, command, &mut events);
    assert!(reply.is_ok() || events.is_empty(), "a refused command changes nothing: {reply:?} {events:?}");
    history::tell(state, &events);
    state.keys.trim();
    let outcome = Outcome { seq: state.seq, revision: state.revision, reply, events };

    if let Some(known) = &known {
        requests::remember(state, known, &outcome);
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
        Op::OpenSession { id, ttl_ms, on_disconnect } => sessions::open(state, *id, *ttl_ms, *on_disconnect),
        Op::Attach { session } => sessions::attach(state, *session),
        Op::EndSession { session, why, only_if } => sessions::end(state, *session, *why, *only_if, at, events),
        Op::CloseSession { session, guard } => sessions::close(state, *session, *guard, at, events),
        Op::Campaign { session, serial, election, candidate, value, priority } => {
            let entry = elections::Entry { session: *session, serial: *serial, candidate, value, priority: *priority };
            elections::campaign(state, election, entry, at, events)
        }
        Op::Proclaim { election, token, value } => elections::proclaim(state, election, *token, value, events),
        Op::Resign { election, token, by, guard } => {
            handover::resign(state, election, *token, Asker { by: *by, guard: *guard }, effects(at, events))
        }
        Op::Withdraw { session, serial } => handover::withdraw(state, *session, *serial, effects(at, events)),
        Op::Remove { election, candidate, by, guard } => {
            handover::remove(state, election, candidate, Asker { by: *by, guard: *guard }, effects(at, events))
        }
        Op::Transfer { election, token, to, by, guard } => {
            handover::transfer(state, election, *token, to, Asker { by: *by, guard: *guard }, effects(at, events))
        }
        Op::Keys(op) => keys::apply(state, op, events),
        Op::Compact { revision } => keys::compact(state, *revision),
        Op::RaiseLevel { level } => level::raise(state, *level),
    }
}

fn effects(at_unix_ms: u64, events: &mut Vec<Event>) -> Effects<'_> {
    Effects { at_unix_ms, events }
}
