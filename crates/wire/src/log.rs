//! The format of log entries: a batch of commands behind a version byte. See `log.proto`.

use bytes::Bytes;
use palisade_coord_core::{
    AttachGeneration, Command, EndReason, Guard, KeyOp, OnDisconnect, Op, RequestId, Revision, Serial, SessionId,
};
use palisade_fence::{ClusterId, Fence, Token};

use crate::WireError;
use crate::convert::{leader_value, value_from};
use crate::coord::v1::logged_command as record;
use crate::coord::v1::{self, LogBatch, LoggedCommand};
use crate::format;

mod keys;

/// The first byte of an entry.
pub const VERSION: u8 = 1;

/// The commands of one entry.
pub fn encode_batch(commands: &[Command]) -> Bytes {
    format::encode(VERSION, &LogBatch { commands: commands.iter().map(to_record).collect() })
}

/// The commands of one entry, in their order.
///
/// # Errors
/// The entry cannot be read; see [`WireError`].
pub fn decode_batch(entry: &[u8]) -> Result<Vec<Command>, WireError> {
    let batch: LogBatch = format::decode(VERSION, entry)?;
    batch.commands.into_iter().map(from_record).collect()
}

fn to_record(command: &Command) -> LoggedCommand {
    LoggedCommand {
        request_id: command.request.map(|id| v1::RequestId {
            session: id.session.get(),
            serial: id.serial.get(),
            acked_below: id.acked_below.get(),
        }),
        at_unix_ms: command.at_unix_ms,
        op: Some(to_op(&command.op)),
    }
}

fn from_record(record: LoggedCommand) -> Result<Command, WireError> {
    Ok(Command {
        request: record.request_id.map(|id| RequestId {
            session: SessionId(id.session),
            serial: Serial(id.serial),
            acked_below: Serial(id.acked_below),
        }),
        at_unix_ms: record.at_unix_ms,
        op: from_op(record.op.ok_or_else(|| WireError::missing("command.op"))?)?,
    })
}

fn to_op(op: &Op) -> record::Op {
    match op {
        Op::Found { cluster } => record::Op::Found(record::Found { cluster_id: cluster.0 }),
        Op::OpenSession { id, ttl_ms, on_disconnect } => record::Op::Open(record::Open {
            ttl_ms: *ttl_ms,
            release_after_ms: release_after_ms(*on_disconnect),
            id: id.map(SessionId::get),
        }),
        Op::Attach { session } => record::Op::Attach(record::Attach { session: session.get() }),
        Op::EndSession { session, why, only_if } => record::Op::End(record::End {
            session: session.get(),
            why: to_end_reason(*why).into(),
            only_if_attach_generation: only_if.map(AttachGeneration::get),
        }),
        Op::Campaign { session, serial, election, candidate, value, priority } => record::Op::Campaign(record::Enter {
            session: session.get(),
            serial: serial.get(),
            election: election.clone(),
            candidate_id: candidate.clone(),
            value: Some(leader_value(value)),
            priority: *priority,
        }),
        Op::Proclaim { election, token, value } => record::Op::Proclaim(record::Proclaim {
            election: election.clone(),
            token: token.get(),
            value: Some(leader_value(value)),
        }),
        Op::Resign { election, token, by, guard } => record::Op::Resign(record::Resign {
            election: election.clone(),
            token: token.get(),
            by_session: by.map(SessionId::get),
            guard: to_guard(*guard).into(),
        }),
        Op::CloseSession { session, guard } => {
            record::Op::Close(record::Close { session: session.get(), guard: to_guard(*guard).into() })
        }
        Op::Withdraw { session, serial } => {
            record::Op::Withdraw(record::Withdraw { session: session.get(), serial: serial.get() })
        }
        Op::Remove { election, candidate, by, guard } => record::Op::Remove(record::Remove {
            election: election.clone(),
            candidate_id: candidate.clone(),
            by_session: by.map(SessionId::get),
            guard: to_guard(*guard).into(),
        }),
        Op::Transfer { election, token, to, by, guard } => record::Op::Transfer(record::Transfer {
            election: election.clone(),
            token: token.map(Token::get),
            to: to.clone(),
            by_session: by.map(SessionId::get),
            guard: to_guard(*guard).into(),
        }),
        Op::Keys(KeyOp::Put(put)) => record::Op::Put(keys::to_put(put)),
        Op::Keys(KeyOp::Delete(delete)) => record::Op::Delete(keys::to_delete(delete)),
        Op::Keys(KeyOp::Read(read)) => record::Op::Read(keys::to_read(read)),
        Op::Keys(KeyOp::Txn(txn)) => record::Op::Txn(keys::to_txn(txn)),
        Op::Compact { revision } => record::Op::Compact(record::Compact { revision: revision.get() }),
        Op::RaiseLevel { level } => record::Op::RaiseLevel(record::RaiseLevel { level: *level }),
    }
}

fn from_op(op: record::Op) -> Result<Op, WireError> {
    Ok(match op {
        record::Op::Found(it) => Op::Found { cluster: ClusterId(it.cluster_id) },
        record::Op::Open(it) => {
            let id = it.id.map(SessionId).map(given).transpose()?;
            Op::OpenSession { id, ttl_ms: it.ttl_ms, on_disconnect: on_disconnect(it.release_after_ms) }
        }
        record::Op::Attach(it) => Op::Attach { session: SessionId(it.session) },
        record::Op::End(it) => Op::EndSession {
            session: SessionId(it.session),
            why: from_end_reason(it.why)?,
            only_if: it.only_if_attach_generation.map(AttachGeneration),
        },
        record::Op::Campaign(it) => Op::Campaign {
            session: SessionId(it.session),
            serial: Serial(it.serial),
            election: it.election,
            candidate: it.candidate_id,
            value: value_from(it.value.unwrap_or_default()),
            priority: it.priority,
        },
        record::Op::Proclaim(it) => Op::Proclaim {
            election: it.election,
            token: token("proclaim.token", it.token)?,
            value: value_from(it.value.unwrap_or_default()),
        },
        record::Op::Resign(it) => Op::Resign {
            election: it.election,
            token: token("resign.token", it.token)?,
            by: it.by_session.map(SessionId),
            guard: from_guard(it.guard)?,
        },
        record::Op::Close(it) => Op::CloseSession { session: SessionId(it.session), guard: from_guard(it.guard)? },
        record::Op::Withdraw(it) => Op::Withdraw { session: SessionId(it.session), serial: Serial(it.serial) },
        record::Op::Remove(it) => Op::Remove {
            election: it.election,
            candidate: it.candidate_id,
            by: it.by_session.map(SessionId),
            guard: from_guard(it.guard)?,
        },
        record::Op::Transfer(it) => Op::Transfer {
            election: it.election,
            token: it.token.map(|raw| token("transfer.token", raw)).transpose()?,
            to: it.to,
            by: it.by_session.map(SessionId),
            guard: from_guard(it.guard)?,
        },
        record::Op::Put(it) => Op::Keys(KeyOp::Put(keys::from_put(it)?)),
        record::Op::Delete(it) => Op::Keys(KeyOp::Delete(keys::from_delete(it)?)),
        record::Op::Read(it) => Op::Keys(KeyOp::Read(keys::from_read(it)?)),
        record::Op::Txn(it) => Op::Keys(KeyOp::Txn(keys::from_txn(it)?)),
        record::Op::Compact(it) => Op::Compact { revision: Revision(it.revision) },
        record::Op::RaiseLevel(it) => Op::RaiseLevel { level: it.level },
    })
}

pub(crate) fn release_after_ms(on_disconnect: OnDisconnect) -> Option<u64> {
    match on_disconnect {
        OnDisconnect::KeepUntilTtl => None,
        OnDisconnect::ReleaseAfter { ms } => Some(ms),
    }
}

pub(crate) fn on_disconnect(release_after_ms: Option<u64>) -> OnDisconnect {
    release_after_ms.map_or(OnDisconnect::KeepUntilTtl, |ms| OnDisconnect::ReleaseAfter { ms })
}

pub(crate) fn token(field: &'static str, raw: u64) -> Result<Token, WireError> {
    Token::from_wire(raw).ok_or_else(|| WireError::field(field, raw))
}

fn to_fence(fence: &Option<Fence>) -> Option<v1::Fence> {
    fence.as_ref().map(|fence| v1::Fence { election: fence.election.clone(), token: fence.token.get() })
}

fn from_fence(fence: Option<v1::Fence>) -> Result<Option<Fence>, WireError> {
    let Some(fence) = fence else { return Ok(None) };
    Ok(Some(Fence { election: fence.election, token: token("fence.token", fence.token)? }))
}

fn given(id: SessionId) -> Result<SessionId, WireError> {
    if id.is_given() { Ok(id) } else { Err(WireError::field("open.id", id)) }
}

fn to_guard(guard: Guard) -> record::Guard {
    match guard {
        Guard::Refuse => record::Guard::Refuse,
        Guard::Break => record::Guard::Break,
        Guard::Ask => record::Guard::Ask,
        Guard::AskAndStopRenewing => record::Guard::AskAndStopRenewing,
    }
}

fn from_guard(raw: i32) -> Result<Guard, WireError> {
    match record::Guard::try_from(raw) {
        Ok(record::Guard::Refuse) => Ok(Guard::Refuse),
        Ok(record::Guard::Break) => Ok(Guard::Break),
        Ok(record::Guard::Ask) => Ok(Guard::Ask),
        Ok(record::Guard::AskAndStopRenewing) => Ok(Guard::AskAndStopRenewing),
        Err(_) => Err(WireError::field("guard", raw)),
    }
}

pub(crate) fn to_end_reason(why: EndReason) -> record::EndReason {
    match why {
        EndReason::Resigned => record::EndReason::Resigned,
        EndReason::Closed => record::EndReason::Closed,
        EndReason::Expired => record::EndReason::Expired,
        EndReason::Disconnected => record::EndReason::Disconnected,
        EndReason::Transferred => record::EndReason::Transferred,
        EndReason::Removed => record::EndReason::Removed,
        EndReason::Restored => record::EndReason::Restored,
    }
}

pub(crate) fn from_end_reason(raw: i32) -> Result<EndReason, WireError> {
    match record::EndReason::try_from(raw) {
        Ok(record::EndReason::Resigned) => Ok(EndReason::Resigned),
        Ok(record::EndReason::Closed) => Ok(EndReason::Closed),
        Ok(record::EndReason::Expired) => Ok(EndReason::Expired),
        Ok(record::EndReason::Disconnected) => Ok(EndReason::Disconnected),
        Ok(record::EndReason::Transferred) => Ok(EndReason::Transferred),
        Ok(record::EndReason::Removed) => Ok(EndReason::Removed),
        Ok(record::EndReason::Restored) => Ok(EndReason::Restored),
        Ok(record::EndReason::Unspecified) | Err(_) => Err(WireError::field("why", raw)),
    }
}
