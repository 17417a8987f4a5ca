//! Requests to end a leadership, a candidacy or a session before its time: from the holder, or from somebody else.

use palisade_coord_core::{Command, Grant, Guard, Op, SessionId, State};

use super::check;
use crate::coord::v1::{self, ErrorDetail};

/// The end of a leadership.
pub fn resign(request: v1::ResignRequest, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    Ok(Command {
        request: check::request_id(request.request_id)?,
        at_unix_ms,
        op: Op::Resign {
            election: check::name("election", request.election)?,
            token: check::token("token", request.token)?,
            by: by(request.session),
            guard: guard(request.force, request.end_session)?,
        },
    })
}

/// A hand-over to a candidate that waits.
pub fn transfer(request: v1::TransferRequest, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    let token = (request.token != 0).then(|| check::token("token", request.token)).transpose()?;
    Ok(Command {
        request: check::request_id(request.request_id)?,
        at_unix_ms,
        op: Op::Transfer {
            election: check::name("election", request.election)?,
            token,
            to: check::name("to", request.to)?,
            by: by(request.session),
            guard: guard(request.force, request.end_session)?,
        },
    })
}

/// The end of a candidacy, by the candidate's id.
pub fn withdraw_by_id(request: v1::WithdrawRequest, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    Ok(Command {
        request: check::request_id(request.request_id)?,
        at_unix_ms,
        op: Op::Remove {
            election: check::name("election", request.election)?,
            candidate: check::name("candidate_id", request.candidate_id)?,
            by: by(request.session),
            guard: guard(request.force, request.end_session)?,
        },
    })
}

/// The end of a candidacy, by its session.
pub fn withdraw(frame: v1::Withdraw, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    let op = Op::Withdraw {
        session: check::session("session", frame.session)?,
        serial: check::serial("serial", frame.serial)?,
    };
    Ok(Command::new(at_unix_ms, op))
}

/// The end of a session, for somebody who is not its client.
pub fn close_session(request: v1::CloseSessionRequest, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    Ok(Command {
        request: check::request_id(request.request_id)?,
        at_unix_ms,
        op: Op::CloseSession {
            session: check::session("session", request.session)?,
            guard: guard(request.force, request.end_session)?,
        },
    })
}

/// What a holder that was asked by this command loses with its session, if that is to end.
pub fn losing<'a>(state: &'a State, holder: SessionId, command: &Op) -> impl Iterator<Item = &'a Grant> + use<'a> {
    let ends = match command {
        Op::CloseSession { .. } => true,
        Op::Resign { guard, .. } | Op::Transfer { guard, .. } | Op::Remove { guard, .. } => {
            *guard == Guard::AskAndStopRenewing
        }
        Op::Found { .. }
        | Op::OpenSession { .. }
        | Op::Attach { .. }
        | Op::EndSession { .. }
        | Op::Campaign { .. }
        | Op::Proclaim { .. }
        | Op::Withdraw { .. }
        | Op::Keys(_)
        | Op::Compact { .. }
        | Op::RaiseLevel { .. } => false,
    };
    state.held_by(holder).filter(move |_| ends)
}

fn by(session: u64) -> Option<SessionId> {
    (session != 0).then_some(SessionId(session))
}

/// What becomes of a guard that a holder may have. Somebody who does not say is asking.
fn guard(force: bool, end_session: bool) -> Result<Guard, ErrorDetail> {
    match (force, end_session) {
        (false, false) => Ok(Guard::Ask),
        (false, true) => Ok(Guard::AskAndStopRenewing),
        (true, false) => Ok(Guard::Break),
        (true, true) => Err(check::invalid("end_session", true, "not together with force, which asks nobody")),
    }
}
