//! Repeated requests: which are known by an id, what is answered to one that was seen before, and what is remembered of one
//! that was not. Asked before every other check, because a repetition must never have a second effect.

use palisade_planted::{self as planted, Bug};

use crate::command::{Command, Op, RequestId};
use crate::memory::{Answer, Recall};
use crate::outcome::{Outcome, Refusal, Reply};
use crate::{Serial, SessionId, State, answers, fingerprint};

/// A request that is known by an id.
pub(crate) struct Known {
    id: RequestId,
    fingerprint: u64,
    campaign: bool,
}

/// What identifies a command; `None`: it is harmless to repeat.
pub(crate) fn known(command: &Command) -> Option<Known> {
    if planted::is(Bug::ForgetAnswers) {
        return None;
    }
    let (id, campaign) = match &command.op {
        Op::Campaign { session, serial, .. } => {
            (RequestId { session: *session, serial: *serial, acked_below: Serial(0) }, true)
        }
        Op::Found { .. } | Op::Attach { .. } | Op::Withdraw { .. } | Op::RaiseLevel { .. } => return None,
        Op::OpenSession { .. }
        | Op::EndSession { .. }
        | Op::CloseSession { .. }
        | Op::Proclaim { .. }
        | Op::Resign { .. }
        | Op::Remove { .. }
        | Op::Transfer { .. }
        | Op::Keys(_)
        | Op::Compact { .. } => (command.request?, false),
    };
    Some(Known { id, fingerprint: fingerprint::fingerprint(&command.op), campaign })
}

/// The outcome of a request that must not be applied, because it was or may have been before.
pub(crate) fn recall(state: &State, known: &Known) -> Option<Outcome> {
    let serial = known.id.serial;
    let refused = |why| Outcome { seq: state.seq, revision: state.revision, reply: Err(why), events: Vec::new() };
    let Some(session) = state.sessions.get(&known.id.session) else {
        // Whatever a campaign did has ended with its session; another write may have taken effect.
        return (!known.campaign).then(|| refused(Refusal::Forgotten { serial }));
    };
    if known.campaign && session.candidacies.contains_key(&serial) {
        return None; // it lives, and tells its own state
    }
    match session.memory.recall(serial) {
        Recall::New => None,
        Recall::Forgotten => Some(refused(Refusal::Forgotten { serial })),
        // A campaign that succeeded and does not stand any more, or was withdrawn before it came: its serial names a
        // candidacy that has ended, and a late copy must not bring it back.
        Recall::Known(answer)
            if answer.fingerprint != known.fingerprint || (known.campaign && answer.reply.is_ok()) =>
        {
            Some(refused(Refusal::SerialReused { serial }))
        }
        Recall::Known(answer) => Some(Outcome {
            seq: answer.seq,
            revision: answer.revision,
            reply: answer.reply.clone(),
            events: Vec::new(),
        }),
    }
}

/// Keeps the answer to a request that was applied, or refused, for the first time.
pub(crate) fn remember(state: &mut State, known: &Known, outcome: &Outcome) {
    let Known { id, fingerprint, .. } = *known;
    answers::forget_below(state, id.session, id.acked_below.min(id.serial));
    let Some(session) = state.sessions.get(&id.session) else { return };
    if session.candidacies.contains_key(&id.serial) && session.memory.recall(id.serial) != Recall::New {
        return; // a campaign that was repeated while it lives: remembered, or forgotten, by the first
    }
    let reply = match &outcome.reply {
        Ok(Reply::Campaigned { .. }) => Ok(Reply::Campaigned { grant: None }), // the candidacy itself tells the rest
        Ok(Reply::Keys(reply)) => Ok(Reply::Keys(reply.small())),
        reply => reply.clone(),
    };
    let answer = Answer { fingerprint, seq: outcome.seq, revision: outcome.revision, reply };
    answers::keep(state, id.session, id.serial, answer);
}

/// Sees to it that a campaign of this serial, which does not stand, comes too late: the tombstone of a withdrawn candidacy is
/// an answer under its serial, which nothing that is asked has.
///
/// # Errors
/// The serial is that of another request.
pub(crate) fn bury(state: &mut State, id: SessionId, serial: Serial) -> Result<(), Refusal> {
    let (seq, revision) = (state.seq, state.revision);
    let session = state.sessions.get(&id).ok_or(Refusal::SessionEnded { session: id })?;
    match session.memory.recall(serial) {
        Recall::New => {
            let reply = Ok(Reply::Withdrawn { already: true });
            answers::keep(state, id, serial, Answer { fingerprint: 0, seq, revision, reply });
            Ok(())
        }
        Recall::Forgotten => Ok(()),
        Recall::Known(answer) => match answer.reply {
            Ok(Reply::Campaigned { .. } | Reply::Withdrawn { .. }) | Err(_) => Ok(()),
            Ok(_) => Err(Refusal::SerialReused { serial }),
        },
    }
}
