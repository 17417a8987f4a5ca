//! Errors and answers as frames, and batches of frames. Keeps true: an error of an unknown kind is read as "outcome unknown".

use std::sync::Arc;
use std::time::Duration;

use palisade_fence::Token;
use prost::Message;
use tokio::sync::mpsc;

use super::{BATCH_BYTES, BATCH_FRAMES};
use crate::inbound::Payload;
use crate::v1::error::Kind;
use crate::v1::{Answer, Error, Frame, Frames, answer, frame};
use crate::{AppError, RpcError};

/// The answer to the call `id`.
pub(crate) fn answer_of(id: u64, method: &str, result: Result<Payload, RpcError>) -> Frame {
    let result = match result {
        Ok(Payload::Encoded(bytes)) => answer::Result::Payload(bytes),
        Ok(Payload::Local(_)) => unreachable!("the reply was told to encode"),
        Err(error) => answer::Result::Error(to_wire(&error, method)),
    };
    Frame { kind: Some(frame::Kind::Answer(Answer { id, result: Some(result) })) }
}

fn to_wire(error: &RpcError, method: &str) -> Error {
    let mut wire = Error { message: error.to_string(), method: method.to_owned(), ..Error::default() };
    wire.current_token = error.current_token().map_or(0, Token::get);
    wire.leader = error.leader().unwrap_or_default().to_owned();
    let kind = match error {
        RpcError::Stale { .. } => Kind::Stale,
        RpcError::Ahead { .. } => Kind::Ahead,
        RpcError::NotLeader { .. } => Kind::NotLeader,
        RpcError::NoToken(_) => Kind::NoToken,
        RpcError::NotStarted => Kind::NotStarted,
        RpcError::NoSuchEndpoint { endpoint } => {
            wire.message.clone_from(endpoint);
            Kind::NoSuchEndpoint
        }
        RpcError::NoSuchMethod { method } => {
            wire.message.clone_from(method);
            Kind::NoSuchMethod
        }
        RpcError::Invalid { why } => {
            wire.message.clone_from(why);
            Kind::Invalid
        }
        RpcError::Overloaded { limit } => {
            wire.limit = *limit;
            Kind::Overloaded
        }
        RpcError::TooLarge { size, limit } => {
            (wire.size, wire.limit) = (*size, *limit);
            Kind::TooLarge
        }
        RpcError::Expired => Kind::Expired,
        RpcError::GuardNotDurable { why } => {
            wire.message.clone_from(why);
            Kind::GuardNotDurable
        }
        RpcError::TimedOut { limit } => {
            wire.limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            Kind::TimedOut
        }
        RpcError::Superseded { .. } => Kind::Superseded,
        RpcError::EndpointFailed { why } => {
            wire.message.clone_from(why);
            Kind::EndpointFailed
        }
        RpcError::EndpointGone => Kind::EndpointGone,
        RpcError::ReplyTooLarge { size, limit } => {
            (wire.size, wire.limit) = (*size, *limit);
            Kind::ReplyTooLarge
        }
        RpcError::Cancelled => Kind::Cancelled,
        RpcError::App(AppError { code, message, details }) => {
            wire.message.clone_from(message);
            wire.code = *code;
            wire.details = details.clone();
            Kind::Application
        }
        // A receiver's own calls to others: for its caller the outcome is unknown.
        RpcError::NotLeading
        | RpcError::Unreachable { .. }
        | RpcError::Disconnected { .. }
        | RpcError::BadReply { .. } => Kind::Unspecified,
    };
    wire.kind = kind.into();
    wire
}

/// What an error frame means to the caller of an endpoint.
pub(crate) fn error_of(wire: Error, endpoint: &Arc<str>) -> RpcError {
    let current = Token::from_wire(wire.current_token);
    let leader = Some(wire.leader).filter(|leader| !leader.is_empty());
    let (size, limit, why) = (wire.size, wire.limit, wire.message);
    match Kind::try_from(wire.kind).unwrap_or_default() {
        Kind::Stale => RpcError::Stale { current, leader },
        Kind::Ahead => RpcError::Ahead { current, leader },
        Kind::NotLeader => RpcError::NotLeader { current, leader },
        Kind::NoToken => RpcError::NoToken("a token or an election"),
        Kind::NotStarted => RpcError::NotStarted,
        Kind::NoSuchEndpoint => RpcError::NoSuchEndpoint { endpoint: endpoint.to_string() },
        Kind::NoSuchMethod => RpcError::NoSuchMethod { method: why },
        Kind::Invalid | Kind::Version => RpcError::Invalid { why },
        Kind::Overloaded => RpcError::Overloaded { limit },
        Kind::TooLarge => RpcError::TooLarge { size, limit },
        Kind::Expired => RpcError::Expired,
        Kind::GuardNotDurable => RpcError::GuardNotDurable { why },
        Kind::TimedOut => RpcError::TimedOut { limit: Duration::from_millis(limit) },
        Kind::Superseded => RpcError::Superseded { current, leader },
        Kind::EndpointFailed => RpcError::EndpointFailed { why },
        Kind::EndpointGone => RpcError::EndpointGone,
        Kind::ReplyTooLarge => RpcError::ReplyTooLarge { size, limit },
        Kind::Cancelled => RpcError::Cancelled,
        Kind::Application => RpcError::App(AppError { code: wire.code, message: why, details: wire.details }),
        Kind::Unspecified => RpcError::BadReply { why: format!("an error of unknown kind {}: {why}", wire.kind) },
    }
}

/// Waits for a frame and takes what else waits with it; `None` when the queue has ended. Cancelling it loses nothing.
pub(crate) async fn next_batch<T>(
    queue: &mut mpsc::UnboundedReceiver<T>,
    spare: &mut Option<T>,
    size: impl Fn(&T) -> usize,
) -> Option<Vec<T>> {
    let first = match spare.take() {
        Some(first) => first,
        None => queue.recv().await?,
    };
    let mut bytes = size(&first);
    let mut batch = vec![first];
    while batch.len() < BATCH_FRAMES && bytes < BATCH_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        if bytes + size(&next) > BATCH_BYTES {
            // Too much for this batch: it leads the next one.
            *spare = Some(next);
            break;
        }
        bytes += size(&next);
        batch.push(next);
    }
    Some(batch)
}

/// A frame's size, near enough for batching.
pub(crate) fn frame_size(frame: &Frame) -> usize {
    frame.encoded_len()
}

pub(crate) fn batch_of(frames: Vec<Frame>) -> Frames {
    Frames { frames }
}
