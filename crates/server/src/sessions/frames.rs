//! Frames of clients, checked, and the frames that answer them. Nothing is decided here.

use std::ops::RangeInclusive;

use palisade_coord_core::{Command, Op, Serial, SessionId};
use palisade_liveness::{CloseReason, NotRenewed};
use palisade_wire::convert;
use palisade_wire::coord::v1::client_frame::Body;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ClientFrame, ErrorDetail, KeptAlive, Refused, ServerFrame, StoreLeader, server_frame};
use palisade_wire::status::{not_applied, unknown};

/// What a frame asks for, after the checks that need no state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// Renew these.
    KeepAlive(Vec<SessionId>),
    /// A session, attached to this stream.
    Open { ttl_ms: u64, command: Command },
    /// A session that exists, attached to this stream.
    Attach { session: SessionId, command: Command },
    /// A candidacy of a session that is attached to this stream.
    Campaign { session: SessionId, command: Command },
    /// The end of a candidacy of a session that is attached to this stream.
    Withdraw { session: SessionId, serial: Serial, command: Command },
    /// The end of a session, by its client.
    Close { session: SessionId, command: Command },
}

/// Checks a frame.
pub(super) fn admit(frame: ClientFrame, ttl_ms: RangeInclusive<u64>, at_unix_ms: u64) -> Result<Request, ErrorDetail> {
    match frame.body {
        Some(Body::KeepAlive(body)) => convert::keep_alive(body).map(Request::KeepAlive),
        Some(Body::Open(body)) => {
            let ttl = body.ttl_ms;
            convert::open(body, ttl_ms, at_unix_ms).map(|command| Request::Open { ttl_ms: ttl, command })
        }
        Some(Body::Attach(body)) => {
            let command = convert::attach(body, at_unix_ms)?;
            Ok(Request::Attach { session: session_of(&command), command })
        }
        Some(Body::Campaign(body)) => {
            let command = convert::campaign(body, at_unix_ms)?;
            Ok(Request::Campaign { session: session_of(&command), command })
        }
        Some(Body::Withdraw(body)) => {
            let serial = Serial(body.serial);
            let command = convert::withdraw(body, at_unix_ms)?;
            Ok(Request::Withdraw { session: session_of(&command), serial, command })
        }
        Some(Body::Close(body)) => {
            let command = convert::close(body, at_unix_ms)?;
            Ok(Request::Close { session: session_of(&command), command })
        }
        // Only a relayed stream ends so, and its reader knows.
        Some(Body::ClientGone(_)) | None => {
            let limit = "open, attach, keep_alive, campaign, withdraw or close";
            Err(convert::invalid("body", "none that this server knows", limit))
        }
    }
}

fn session_of(command: &Command) -> SessionId {
    match command.op {
        Op::Attach { session }
        | Op::Campaign { session, .. }
        | Op::Withdraw { session, .. }
        | Op::EndSession { session, .. } => session,
        _ => unreachable!("frames of one session become these commands only"),
    }
}

pub(super) fn answer(call: u64, body: server_frame::Body) -> ServerFrame {
    ServerFrame { call, body: Some(body) }
}

pub(super) fn event(body: server_frame::Body) -> ServerFrame {
    answer(0, body)
}

pub(super) fn refused(call: u64, error: ErrorDetail) -> ServerFrame {
    answer(call, server_frame::Body::Refused(Refused { error: Some(error) }))
}

pub(super) fn kept_alive(call: u64, sessions: &[SessionId]) -> ServerFrame {
    let sessions = sessions.iter().map(|session| session.get()).collect();
    answer(call, server_frame::Body::KeptAlive(KeptAlive { sessions, not_renewed: Vec::new() }))
}

/// A session in a keep-alive was not renewed.
pub(super) fn not_renewed(call: u64, session: SessionId, why: NotRenewed) -> ServerFrame {
    match why {
        NotRenewed::Ended => {
            let detail = ErrorDetail {
                field: "session".to_owned(),
                value: session.to_string(),
                ..not_applied(Kind::SessionEnded, "open another session")
            };
            refused(call, detail)
        }
        NotRenewed::NotAttachedHere => refused(call, not_attached_here(session)),
        NotRenewed::EndAsked => {
            let kept = KeptAlive { sessions: Vec::new(), not_renewed: vec![session.get()] };
            answer(call, server_frame::Body::KeptAlive(kept))
        }
    }
}

pub(super) fn not_attached_here(session: SessionId) -> ErrorDetail {
    let detail = convert::invalid("session", session, "a session that is attached to this stream");
    ErrorDetail { hint: "attach it first".to_owned(), ..detail }
}

/// "There is no room for another of these."
pub(super) fn too_many(what: &str, limit: usize) -> ErrorDetail {
    ErrorDetail {
        field: what.to_owned(),
        limit: format!("at most {limit}"),
        ..not_applied(Kind::Overloaded, "repeat it a little later")
    }
}

/// Why no stream may begin at a node that does not lead the store.
pub(super) fn elsewhere(store_leader: Option<StoreLeader>) -> ErrorDetail {
    match store_leader {
        Some(_) => ErrorDetail { store_leader, ..not_applied(Kind::NotStoreLeader, "ask the store leader") },
        None => not_applied(Kind::NoStoreLeader, "repeat it a little later, at any node"),
    }
}

/// Why a stream is closed by this node. What it had in flight may have been applied.
pub(super) fn closed(why: CloseReason, store_leader: Option<StoreLeader>) -> ErrorDetail {
    let hint = match why {
        CloseReason::LostStoreLeadership => "this node leads the store no longer: attach at the store leader",
        CloseReason::NoQuorum => "no majority confirms this node as store leader: attach at whichever leads",
    };
    ErrorDetail { store_leader, ..unknown(Kind::NotStoreLeader, hint) }
}
