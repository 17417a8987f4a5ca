//! Requests to commands. `at_unix_ms` is the proposer's wall clock, for people to read.

use std::ops::RangeInclusive;

use palisade_coord_core::keys::op::{Binding, Delete, Put};
use palisade_coord_core::{Command, EndReason, KeyOp, Keys, OnDisconnect, Op, Seq, SessionId, Value};
use palisade_fence::Fence;
use prost::Message;

use super::check;
use crate::coord::v1::{self, ErrorDetail};
use crate::limits;

/// A write of a key.
pub fn put(request: v1::PutRequest, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    use v1::put_request::Binding as Asked;
    check::size(&request)?;
    let value = check::bytes("value", request.value, 0..=limits::KV_VALUE_BYTES)?;
    if request.keep_value && !value.is_empty() {
        return Err(check::invalid("value", format!("{} bytes", value.len()), "empty with keep_value"));
    }
    Ok(Command {
        request: check::request_id(request.request_id)?,
        at_unix_ms,
        op: Op::Keys(KeyOp::Put(Put {
            key: check::bytes("key", request.key, 1..=limits::KEY_BYTES)?,
            value: (!request.keep_value).then_some(value),
            session: match request.binding {
                None => Binding::None,
                Some(Asked::Session(id)) => Binding::To(check::session("session", id)?),
                Some(Asked::KeepSession(v1::put_op::Keep {})) => Binding::Keep,
            },
            shows_previous: request.show_previous,
            fence: check::fence(request.fence)?,
        })),
    })
}

/// A removal of keys.
pub fn delete(request: v1::DeleteRequest, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    let keys = match request.keys {
        None => Keys::One(check::bytes("key", request.key, 1..=limits::KEY_BYTES)?),
        Some(_) if !request.key.is_empty() => {
            return Err(check::invalid("key", format!("{} bytes", request.key.len()), "empty with keys"));
        }
        keys => super::keys::keys(keys)?,
    };
    Ok(Command {
        request: check::request_id(request.request_id)?,
        at_unix_ms,
        op: Op::Keys(KeyOp::Delete(Delete {
            keys,
            shows_previous: request.show_previous,
            fence: check::fence(request.fence)?,
        })),
    })
}

/// A read of a key.
pub fn get(request: v1::GetRequest) -> Result<Vec<u8>, ErrorDetail> {
    check::bytes("key", request.key, 1..=limits::KEY_BYTES)
}

/// The name in a question about one election.
pub fn election(name: String) -> Result<String, ErrorDetail> {
    check::name("election", name)
}

/// What to observe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observe {
    /// Which election.
    pub election: String,
    /// `None`: from the present state on.
    pub from: Option<ObserveFrom>,
}

/// Where an observer goes on: after this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObserveFrom {
    /// `None`: the cluster's present one.
    pub generation: Option<u32>,
    /// What it saw last.
    pub seq: Seq,
}

/// The election to observe, and from where on.
pub fn observe(request: v1::ObserveRequest) -> Result<Observe, ErrorDetail> {
    let from = request.from.map(|from| ObserveFrom { generation: from.generation, seq: Seq(from.seq) });
    Ok(Observe { election: election(request.election)?, from })
}

/// The name after which a list of elections goes on; `None`: it begins.
pub fn elections_after(after: String) -> Result<Option<String>, ErrorDetail> {
    if after.is_empty() { Ok(None) } else { check::name("after", after).map(Some) }
}

/// The session after which a list of sessions goes on; `None`: it begins.
pub fn sessions_after(after: u64) -> Option<SessionId> {
    (after != 0).then_some(SessionId(after))
}

/// A change of a leadership's value.
pub fn proclaim(request: v1::ProclaimRequest, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    Ok(Command {
        request: check::request_id(request.request_id)?,
        at_unix_ms,
        op: Op::Proclaim {
            election: check::name("election", request.election)?,
            token: check::token("token", request.token)?,
            value: value(request.value)?,
        },
    })
}

/// A new session. `ttl_ms` is what this server allows.
pub fn open(frame: v1::OpenSession, ttl_ms: RangeInclusive<u64>, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    use v1::on_disconnect::Kind;
    let on_disconnect = match frame.on_disconnect.and_then(|on_disconnect| on_disconnect.kind) {
        None | Some(Kind::KeepUntilTtl(_)) => OnDisconnect::KeepUntilTtl,
        Some(Kind::ReleaseAfterMs(ms)) => OnDisconnect::ReleaseAfter {
            ms: check::milliseconds("on_disconnect.release_after_ms", ms, 0..=limits::RELEASE_AFTER_MAX_MS)?,
        },
    };
    let ttl_ms = check::milliseconds("ttl_ms", frame.ttl_ms, ttl_ms)?;
    let id = match frame.session_id {
        0 => None,
        number => Some(SessionId::given(number).ok_or_else(|| {
            check::invalid("session_id", number, format!("1 to {}, or 0 for one that the store chooses", u64::MAX >> 1))
        })?),
    };
    Ok(Command::new(at_unix_ms, Op::OpenSession { id, ttl_ms, on_disconnect }))
}

/// A session on another stream.
pub fn attach(frame: v1::AttachSession, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    let session = check::session("session", frame.session)?;
    Ok(Command::new(at_unix_ms, Op::Attach { session }))
}

/// The end of a session, by its client.
pub fn close(frame: v1::CloseSession, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    let session = check::session("session", frame.session)?;
    Ok(Command::new(at_unix_ms, Op::EndSession { session, why: EndReason::Closed, only_if: None }))
}

/// The sessions to renew.
pub fn keep_alive(frame: v1::KeepAlive) -> Result<Vec<SessionId>, ErrorDetail> {
    let count = frame.sessions.len();
    if count == 0 || count > limits::KEEP_ALIVE_SESSIONS {
        let limit = format!("1 to {} sessions", limits::KEEP_ALIVE_SESSIONS);
        return Err(check::invalid("sessions", format!("{count} sessions"), limit));
    }
    frame.sessions.into_iter().map(|session| check::session("sessions", session)).collect()
}

/// A new candidacy.
pub fn campaign(frame: v1::Campaign, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    let op = Op::Campaign {
        session: check::session("session", frame.session)?,
        serial: check::serial("serial", frame.serial)?,
        election: check::name("election", frame.election)?,
        candidate: check::name("candidate_id", frame.candidate_id)?,
        value: value(frame.value)?,
        priority: frame.priority,
    };
    Ok(Command::new(at_unix_ms, op))
}

/// The fence of a request that is not a command.
pub fn fence(fence: Option<v1::Fence>) -> Result<Option<Fence>, ErrorDetail> {
    check::fence(fence)
}

fn value(value: Option<v1::LeaderValue>) -> Result<Value, ErrorDetail> {
    let value = value.unwrap_or_default();
    let len = value.encoded_len();
    if len > limits::VALUE_BYTES {
        let limit = format!("at most {} bytes encoded", limits::VALUE_BYTES);
        return Err(check::invalid("value", format!("{len} bytes"), limit));
    }
    Ok(super::read::value_from(value))
}
