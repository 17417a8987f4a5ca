//! What a client reads off the wire. The store sent it, so it is only checked for what would be misunderstood.

use palisade_coord_core::{EndReason, Grant, OnDisconnect, Seq, Serial, SessionId, Value};
use palisade_fence::Token;

use crate::coord::v1;

/// A message of the store makes no sense: it is newer than this program, or broken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: '{value}' cannot be read")]
pub struct OutOfRange {
    /// As named in the message.
    pub field: &'static str,
    /// What it was.
    pub value: String,
}

/// A leadership.
pub fn grant_from(grant: v1::Grant) -> Result<Grant, OutOfRange> {
    let token = Token::from_wire(grant.token)
        .ok_or_else(|| OutOfRange { field: "grant.token", value: grant.token.to_string() })?;
    Ok(Grant {
        election: grant.election,
        candidate: grant.candidate_id,
        session: SessionId(grant.session),
        serial: Serial(grant.serial),
        token,
        seq: Seq(grant.seq),
        since_unix_ms: grant.since_unix_ms,
        value: value_from(grant.value.unwrap_or_default()),
    })
}

/// The value of a leadership.
pub fn value_from(value: v1::LeaderValue) -> Value {
    Value { address: value.address, components: value.components, data: value.data }
}

/// The kind of a session; absent: the default.
pub fn on_disconnect_from(on_disconnect: Option<v1::OnDisconnect>) -> OnDisconnect {
    match on_disconnect.and_then(|on_disconnect| on_disconnect.kind) {
        Some(v1::on_disconnect::Kind::ReleaseAfterMs(ms)) => OnDisconnect::ReleaseAfter { ms },
        Some(v1::on_disconnect::Kind::KeepUntilTtl(_)) | None => OnDisconnect::KeepUntilTtl,
    }
}

/// Why something ended, from the word that is sent; `None`: a word that this program does not know.
pub fn end_reason_from(word: &str) -> Option<EndReason> {
    use EndReason::{Closed, Disconnected, Expired, Removed, Resigned, Restored, Transferred};
    let all = [Resigned, Closed, Expired, Disconnected, Transferred, Removed, Restored];
    all.into_iter().find(|why| why.as_str() == word)
}
