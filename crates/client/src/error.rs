//! What went wrong, and above all what is known: an error never leaves open whether it says "not applied" or "unknown".
//!
//! Keeps true: only the store's typed refusal, or a connection that was never made, can say "not applied". Nothing is ever
//! decided by the text of a message.

use std::fmt;

use palisade_fence::Token;
use palisade_wire::coord::v1::ErrorDetail;
use palisade_wire::coord::v1::error_detail::{Kind, Outcome as WireOutcome};
use palisade_wire::status;

/// What is known of a request that did not succeed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Surely no effect. A read is always this.
    NotApplied,
    /// It may have been applied, now or later. Never repeat it without a request id.
    Unknown,
}

/// Why a request did not succeed; named by what the caller can do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is not allowed: `field`, `value` and `limit` say why.
    InvalidArgument,
    /// Only followers answered until the time was up.
    NotStoreLeader,
    /// No store leader could be reached in time: none of the endpoints answers, or the cluster has no majority.
    NoStoreLeader,
    /// The session has ended: open another one.
    SessionEnded,
    /// Nobody ever campaigned in this election.
    ElectionNotFound,
    /// The token is not the election's current one (`current_token` is).
    StaleToken,
    /// The candidate id waits or leads already, for another live session or for this one.
    CandidateExists,
    /// The holder keeps its leadership until its TTL; only `force` ends it from outside.
    HolderKeepsUntilTtl,
    /// A queue or a limit of the store is full.
    Overloaded,
    /// The cluster cannot store more until space is freed.
    DiskFull,
    /// The store no longer remembers the answer to this request id.
    Forgotten,
    /// The store leader changed while the request was in flight.
    LostLeadership,
    /// Client and cluster are of different generations: the cluster was restored from a backup.
    Generation,
    /// An answer came from another cluster than before: the endpoints are mixed up.
    WrongCluster,
    /// The request id was used for another request.
    SerialReused,
    /// No such candidate stands, or none waits under this id where one must.
    CandidateNotFound,
    /// The revision was compacted: its past is no longer kept.
    Compacted,
    /// The revision has not come yet.
    FutureRevision,
    /// There is no such key, and the write needs it.
    KeyNotFound,
    /// The id that was given for a new session names a live one.
    SessionExists,
    /// This change of the members is refused: `limit` says why.
    Membership,
    /// The cluster has not reached, or cannot be raised to, the level that this needs: `limit` says why.
    Level,
    /// The candidacy ended before it became a leadership that this process could hold (removed by an administrator, say).
    CandidacyEnded,
    /// The connection broke after the request was sent, and no answer came.
    ConnectionLost,
    /// The time was up before an answer came.
    TimedOut,
    /// The answer makes no sense: it is newer than this program, or broken.
    BadAnswer,
    /// The client was shut down.
    ClientClosed,
    /// A refusal of a kind that this program does not know.
    Other,
}

/// A request that did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// Not applied, or unknown.
    pub outcome: Outcome,
    /// What the caller can act on.
    pub kind: ErrorKind,
    /// One line for people.
    pub message: String,
    /// The offending field as it is named in the request; empty if none is.
    pub field: String,
    /// What it was.
    pub value: String,
    /// What is allowed.
    pub limit: String,
    /// What to do next; may be empty.
    pub hint: String,
    /// The election's present token, where the store told it.
    pub current_token: Option<Token>,
    /// Address of the store leader, where the store told it.
    pub store_leader: Option<String>,
    /// The state machine's own refusal: it stands for every attempt under the same request id.
    pub(crate) is_replicated: bool,
}

impl Error {
    pub(crate) fn new(outcome: Outcome, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error {
            outcome,
            kind,
            message: message.into(),
            field: String::new(),
            value: String::new(),
            limit: String::new(),
            hint: String::new(),
            current_token: None,
            store_leader: None,
            is_replicated: false,
        }
    }

    pub(crate) fn not_applied(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(Outcome::NotApplied, kind, message)
    }

    pub(crate) fn unknown(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(Outcome::Unknown, kind, message)
    }

    pub(crate) fn invalid(field: &str, value: impl ToString, limit: impl Into<String>) -> Error {
        let (value, limit) = (value.to_string(), limit.into());
        Error {
            field: field.to_owned(),
            value: value.clone(),
            limit: limit.clone(),
            ..Error::not_applied(ErrorKind::InvalidArgument, format!("{field}: '{value}' is not allowed: {limit}"))
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = hint.into();
        self
    }

    /// For a request that has no effect: nothing about it can be unknown.
    pub(crate) fn of_a_read(self) -> Error {
        Error { outcome: Outcome::NotApplied, ..self }
    }

    /// The store's own words.
    pub(crate) fn refused(detail: &ErrorDetail) -> Error {
        let kind = match detail.kind() {
            Kind::Unspecified => ErrorKind::Other,
            Kind::InvalidArgument => ErrorKind::InvalidArgument,
            Kind::NotStoreLeader => ErrorKind::NotStoreLeader,
            Kind::NoStoreLeader => ErrorKind::NoStoreLeader,
            Kind::SessionEnded => ErrorKind::SessionEnded,
            Kind::ElectionNotFound => ErrorKind::ElectionNotFound,
            Kind::StaleToken => ErrorKind::StaleToken,
            Kind::CandidateExists => ErrorKind::CandidateExists,
            Kind::HolderKeepsUntilTtl => ErrorKind::HolderKeepsUntilTtl,
            Kind::Overloaded => ErrorKind::Overloaded,
            Kind::DiskFull => ErrorKind::DiskFull,
            Kind::Forgotten => ErrorKind::Forgotten,
            Kind::LostLeadership => ErrorKind::LostLeadership,
            Kind::Generation => ErrorKind::Generation,
            Kind::WrongCluster => ErrorKind::WrongCluster,
            Kind::SerialReused => ErrorKind::SerialReused,
            Kind::CandidateNotFound => ErrorKind::CandidateNotFound,
            Kind::Compacted => ErrorKind::Compacted,
            Kind::FutureRevision => ErrorKind::FutureRevision,
            Kind::KeyNotFound => ErrorKind::KeyNotFound,
            Kind::SessionExists => ErrorKind::SessionExists,
            Kind::Membership => ErrorKind::Membership,
            Kind::Level => ErrorKind::Level,
        };
        let outcome = match detail.outcome() {
            WireOutcome::NotApplied => Outcome::NotApplied,
            WireOutcome::Unknown | WireOutcome::Unspecified => Outcome::Unknown,
        };
        Error {
            field: detail.field.clone(),
            value: detail.value.clone(),
            limit: detail.limit.clone(),
            hint: detail.hint.clone(),
            current_token: Token::from_wire(detail.current_token),
            store_leader: detail.store_leader.as_ref().map(|leader| leader.address.clone()),
            is_replicated: detail.header.is_some(),
            ..Error::new(outcome, kind, status::describe(detail))
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_is_not_named_is_unknown() {
        assert_eq!(Error::refused(&ErrorDetail::default()).outcome, Outcome::Unknown);
        let refused = Error::refused(&status::not_applied(Kind::StaleToken, "campaign again"));
        assert_eq!((refused.outcome, refused.kind), (Outcome::NotApplied, ErrorKind::StaleToken));
        assert_eq!(refused.hint, "campaign again");
    }

    #[test]
    fn bad_input_names_field_value_and_limit() {
        let error = Error::invalid("key", "4097 bytes", "1 to 4096 bytes");
        assert_eq!(error.to_string(), "key: '4097 bytes' is not allowed: 1 to 4096 bytes");
        assert_eq!((error.field.as_str(), error.outcome), ("key", Outcome::NotApplied));
    }
}
