//! Frames as bytes: a payload is encoded once, where it will be sent from, and cut out of the batch that it came in.
//! Keeps true: an error of an unknown kind is read as "outcome unknown".

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use palisade_fence::Token;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use prost::{DecodeError, Message};

use crate::v1::error::Kind;
use crate::v1::{Answer, Call, Error, Frame, answer, frame};
use crate::{AppError, RpcError};

// Field numbers of the envelope, for what is written by hand.
const FRAMES_FRAMES: u32 = 1;
const FRAME_CALL: u32 = 2;
const FRAME_ANSWER: u32 = 3;
const CALL_PAYLOAD: u32 = 9;
const ANSWER_PAYLOAD: u32 = 2;

/// A call or an answer whose payload has not been encoded yet: `head` is the message without it.
pub(crate) struct WithPayload<'a, H, P> {
    kind: u32,
    head: &'a H,
    field: u32,
    payload: &'a P,
    payload_len: usize,
}

/// A call that carries `payload`.
pub(crate) fn call_frame<'a, P: Message>(head: &'a Call, payload: &'a P) -> WithPayload<'a, Call, P> {
    WithPayload { kind: FRAME_CALL, head, field: CALL_PAYLOAD, payload, payload_len: payload.encoded_len() }
}

/// An answer that carries `payload`.
pub(crate) fn answer_frame<'a, P: Message>(head: &'a Answer, payload: &'a P) -> WithPayload<'a, Answer, P> {
    WithPayload { kind: FRAME_ANSWER, head, field: ANSWER_PAYLOAD, payload, payload_len: payload.encoded_len() }
}

/// Bytes of a field that is prefixed with its length.
fn field_len(number: u32, len: usize) -> usize {
    key_len(number) + encoded_len_varint(len as u64) + len
}

fn put_prefix(out: &mut impl BufMut, number: u32, len: usize) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// Something that can be appended to a batch.
pub(crate) trait Piece {
    /// Its bytes in the batch.
    fn len(&self) -> usize;
    /// Writes as many.
    fn put(&self, out: &mut impl BufMut);
}

impl<H: Message, P: Message> WithPayload<'_, H, P> {
    fn message_len(&self) -> usize {
        self.head.encoded_len() + field_len(self.field, self.payload_len)
    }
}

impl<H: Message, P: Message> Piece for WithPayload<'_, H, P> {
    fn len(&self) -> usize {
        field_len(FRAMES_FRAMES, field_len(self.kind, self.message_len()))
    }

    fn put(&self, out: &mut impl BufMut) {
        let message = self.message_len();
        put_prefix(out, FRAMES_FRAMES, field_len(self.kind, message));
        put_prefix(out, self.kind, message);
        self.head.encode_raw(out);
        put_prefix(out, self.field, self.payload_len);
        self.payload.encode_raw(out);
    }
}

impl Piece for Frame {
    fn len(&self) -> usize {
        field_len(FRAMES_FRAMES, self.encoded_len())
    }

    fn put(&self, out: &mut impl BufMut) {
        put_prefix(out, FRAMES_FRAMES, self.encoded_len());
        self.encode_raw(out);
    }
}

/// The frames of a batch, one after the other; payloads share the batch's memory.
pub(crate) struct Unbatched(pub(crate) Bytes);

/// Bytes that are no batch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadBatch {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("a frame of {len} bytes in the {left} that are left")]
    Cut { len: u64, left: usize },
}

impl Iterator for Unbatched {
    type Item = Result<Frame, BadBatch>;

    fn next(&mut self) -> Option<Result<Frame, BadBatch>> {
        while self.0.has_remaining() {
            match self.field() {
                Ok(Some(frame)) => return Some(Frame::decode(frame).map_err(BadBatch::from)),
                Ok(None) => {}
                Err(error) => {
                    self.0.clear();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Unbatched {
    /// The next field if it is a frame; `None` for one of a later version.
    fn field(&mut self) -> Result<Option<Bytes>, BadBatch> {
        use prost::encoding::{DecodeContext, decode_key, decode_varint, skip_field};
        let (number, wire) = decode_key(&mut self.0)?;
        if (number, wire) != (FRAMES_FRAMES, WireType::LengthDelimited) {
            skip_field(wire, number, &mut self.0, DecodeContext::default())?;
            return Ok(None);
        }
        let (len, left) = (decode_varint(&mut self.0)?, self.0.len());
        match usize::try_from(len) {
            Ok(fits) if fits <= left => Ok(Some(self.0.split_to(fits))),
            _ => Err(BadBatch::Cut { len, left }),
        }
    }
}

/// The error that answers the call `id`; `method` is that of a tell.
pub(crate) fn error_answer(id: u64, method: &str, error: &RpcError) -> Frame {
    let result = answer::Result::Error(to_wire(error, method));
    Frame { kind: Some(frame::Kind::Answer(Answer { id, result: Some(result) })) }
}

/// An answer of a few bytes to a frame that is no call.
pub(crate) fn small_answer(id: u64, payload: &impl Message) -> Frame {
    let result = answer::Result::Payload(payload.encode_to_vec().into());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Cancel, Frames, Welcome};

    #[test]
    fn what_is_written_by_hand_is_what_prost_reads_and_the_other_way_round() {
        let payload = Welcome { window: 300 };
        let head = Call { id: 7, route: 3, token: u64::MAX >> 1, tell: true, ..Call::default() };
        let call = call_frame(&head, &payload);
        let reply = Answer { id: 9, result: None };
        let answer = answer_frame(&reply, &Welcome { window: 0 }).put_to_vec();
        let cancel = Frame { kind: Some(frame::Kind::Cancel(Cancel { id: 1 })) };
        let batch = [call.put_to_vec(), answer, cancel.put_to_vec()].concat();

        let bytes = Bytes::from(payload.encode_to_vec());
        let call = Frame { kind: Some(frame::Kind::Call(Call { payload: bytes, ..head })) };
        let result = Some(answer::Result::Payload(Bytes::new()));
        let answer = Frame { kind: Some(frame::Kind::Answer(Answer { id: 9, result })) };
        let frames = vec![call, answer, cancel];
        assert_eq!(Frames::decode(&*batch).unwrap().frames, frames);
        let read: Result<Vec<_>, _> = Unbatched(Frames { frames: frames.clone() }.encode_to_vec().into()).collect();
        assert_eq!(read.unwrap(), frames);
    }

    #[test]
    fn a_batch_that_is_cut_off_or_garbage_is_an_error_and_the_end() {
        let whole = Frame { kind: Some(frame::Kind::Cancel(Cancel { id: 1 << 40 })) }.put_to_vec();
        for cut in 1..whole.len() {
            let read: Vec<_> = Unbatched(whole[..cut].to_vec().into()).take(10).collect();
            assert!(matches!(&read[..], [Err(_)]), "cut at {cut}: {read:?}");
        }
        assert!(Unbatched(vec![0xff; 40].into()).take(10).any(|frame| frame.is_err()));
        // A field of a later version is passed over.
        assert_eq!(Unbatched(vec![0x10, 0x01].into()).count(), 0);
    }

    trait PutToVec: Piece {
        fn put_to_vec(&self) -> Vec<u8> {
            let mut out = Vec::new();
            self.put(&mut out);
            assert_eq!(out.len(), self.len());
            out
        }
    }

    impl<T: Piece> PutToVec for T {}
}
