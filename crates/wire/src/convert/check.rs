//! The checks of single fields. Each names the field, what it was, and what is allowed.

use std::ops::RangeInclusive;

use palisade_coord_core::{RequestId, Serial, SessionId};
use palisade_fence::{Fence, Token};
use prost::Message;

use crate::coord::v1::error_detail::Kind;
use crate::coord::v1::{self, ErrorDetail};
use crate::{limits, status};

/// "This field is not allowed to have this value."
pub fn invalid(field: &str, value: impl ToString, limit: impl ToString) -> ErrorDetail {
    ErrorDetail {
        field: field.to_owned(),
        value: value.to_string().chars().take(limits::SHOWN_CHARS).collect(),
        limit: limit.to_string(),
        ..status::not_applied(Kind::InvalidArgument, "")
    }
}

/// A name of an election or the id of a candidate.
pub(super) fn name(field: &str, name: String) -> Result<String, ErrorDetail> {
    let limit = || format!("1 to {} bytes of printable UTF-8", limits::NAME_BYTES);
    if name.is_empty() || name.len() > limits::NAME_BYTES {
        return Err(invalid(field, format!("{} bytes", name.len()), limit()));
    }
    if !name.chars().all(is_printable) {
        return Err(invalid(field, name.escape_debug(), limit()));
    }
    Ok(name)
}

/// Neither a control character nor a line or paragraph separator: it can stand in one line of text.
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}')
}

pub(super) fn session(field: &str, raw: u64) -> Result<SessionId, ErrorDetail> {
    if raw == 0 { Err(invalid(field, raw, "the id of a session, from 1")) } else { Ok(SessionId(raw)) }
}

pub(super) fn serial(field: &str, raw: u64) -> Result<Serial, ErrorDetail> {
    // What is below a floor is forgotten, and above the last one there is none.
    let serials = 1..Serial::LAST.get();
    if serials.contains(&raw) { Ok(Serial(raw)) } else { Err(invalid(field, raw, "1 to 18446744073709551614")) }
}

pub(super) fn token(field: &str, raw: u64) -> Result<Token, ErrorDetail> {
    Token::from_wire(raw).ok_or_else(|| invalid(field, raw, format!("1 to {}", Token::MAX)))
}

pub(super) fn fence(fence: Option<v1::Fence>) -> Result<Option<Fence>, ErrorDetail> {
    let Some(fence) = fence else { return Ok(None) };
    Ok(Some(Fence { election: name("fence.election", fence.election)?, token: token("fence.token", fence.token)? }))
}

pub(super) fn request_id(id: Option<v1::RequestId>) -> Result<Option<RequestId>, ErrorDetail> {
    let Some(id) = id else { return Ok(None) };
    if id.acked_below > id.serial {
        let limit = format!("at most the serial {}: the request itself has no answer yet", id.serial);
        return Err(invalid("request_id.acked_below", id.acked_below, limit));
    }
    Ok(Some(RequestId {
        session: session("request_id.session", id.session)?,
        serial: serial("request_id.serial", id.serial)?,
        acked_below: Serial(id.acked_below),
    }))
}

/// Bytes whose number is limited.
pub(super) fn bytes(field: &str, bytes: Vec<u8>, allowed: RangeInclusive<usize>) -> Result<Vec<u8>, ErrorDetail> {
    if allowed.contains(&bytes.len()) {
        return Ok(bytes);
    }
    Err(invalid(field, format!("{} bytes", bytes.len()), format!("{} to {} bytes", allowed.start(), allowed.end())))
}

/// A duration in whole milliseconds.
pub(super) fn milliseconds(field: &str, ms: u64, allowed: RangeInclusive<u64>) -> Result<u64, ErrorDetail> {
    if allowed.contains(&ms) {
        return Ok(ms);
    }
    Err(invalid(field, format!("{ms} ms"), format!("{} to {} ms", allowed.start(), allowed.end())))
}

/// The size of a whole encoded request.
pub(super) fn size(request: &impl Message) -> Result<(), ErrorDetail> {
    let len = request.encoded_len();
    if len <= limits::REQUEST_BYTES {
        return Ok(());
    }
    Err(invalid("request", format!("{len} bytes"), format!("at most {} bytes encoded", limits::REQUEST_BYTES)))
}
