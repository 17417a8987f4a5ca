//! Refusals that say what is known. A refusal travels as `google.rpc.Status` with our `ErrorDetail` in its details, which any
//! gRPC client can read. A status without it says nothing about the outcome: it must be read as "unknown".
//! Text in a status is for people; nothing is ever decided by it.

use bytes::Bytes;
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

use crate::coord::v1::ErrorDetail;
use crate::coord::v1::error_detail::{Kind, Outcome};

const TYPE_URL: &str = "type.googleapis.com/palisade.coord.v1.ErrorDetail";

/// `google.rpc.Status`, which gRPC puts into the trailer `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// Surely no effect.
pub fn not_applied(kind: Kind, hint: impl Into<String>) -> ErrorDetail {
    ErrorDetail { outcome: Outcome::NotApplied.into(), kind: kind.into(), hint: hint.into(), ..ErrorDetail::default() }
}

/// It may have been applied, now or later.
pub fn unknown(kind: Kind, hint: impl Into<String>) -> ErrorDetail {
    ErrorDetail { outcome: Outcome::Unknown.into(), ..not_applied(kind, hint) }
}

/// The status that carries a refusal.
pub fn refuse(detail: ErrorDetail) -> Status {
    let code = code(&detail);
    let message = describe(&detail);
    let any = Any { type_url: TYPE_URL.to_owned(), value: detail.encode_to_vec() };
    let status = RpcStatus { code: code.into(), message: message.clone(), details: vec![any] };
    Status::with_details(code, message, Bytes::from(status.encode_to_vec()))
}

/// The refusal that a status carries; `None`: the outcome is unknown.
pub fn detail(status: &Status) -> Option<ErrorDetail> {
    let carried = RpcStatus::decode(status.details()).ok()?;
    let any = carried.details.iter().find(|any| any.type_url == TYPE_URL)?;
    ErrorDetail::decode(any.value.as_slice()).ok()
}

/// The gRPC code of a refusal, for clients that know no more than that.
pub fn code(detail: &ErrorDetail) -> Code {
    match detail.kind() {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotStoreLeader | Kind::NoStoreLeader | Kind::LostLeadership => Code::Unavailable,
        Kind::SessionEnded | Kind::ElectionNotFound | Kind::CandidateNotFound | Kind::KeyNotFound => Code::NotFound,
        Kind::StaleToken
        | Kind::CandidateExists
        | Kind::SessionExists
        | Kind::HolderKeepsUntilTtl
        | Kind::Generation
        | Kind::WrongCluster
        | Kind::Forgotten
        | Kind::Membership
        | Kind::Level
        | Kind::SerialReused => Code::FailedPrecondition,
        Kind::Compacted | Kind::FutureRevision => Code::OutOfRange,
        Kind::Overloaded | Kind::DiskFull => Code::ResourceExhausted,
        // A race that was lost: surely nothing happened, and the same request may succeed now.
        Kind::Unspecified if detail.outcome() == Outcome::NotApplied => Code::Aborted,
        Kind::Unspecified => Code::Unknown,
    }
}

/// One line for people.
pub fn describe(detail: &ErrorDetail) -> String {
    let what = match detail.kind() {
        Kind::InvalidArgument => {
            return format!("{}: '{}' is not allowed: {}", detail.field, detail.value, detail.limit);
        }
        Kind::NotStoreLeader => "this node is not the store leader",
        Kind::NoStoreLeader => "no store leader is known",
        Kind::SessionEnded => "the session has ended, or never was",
        Kind::ElectionNotFound => "nobody ever campaigned in this election",
        Kind::StaleToken => "the token is not the election's current one",
        Kind::CandidateExists => "this candidate id waits or leads for another live session",
        Kind::SessionExists => "the id that was given for a new session names a live one",
        Kind::CandidateNotFound => "no candidate stands, or waits, under this id",
        Kind::Compacted => "the revision was compacted",
        Kind::FutureRevision => "the revision has not come yet",
        Kind::KeyNotFound => "there is no such key",
        Kind::HolderKeepsUntilTtl => "the holder keeps its leadership until its TTL",
        Kind::Overloaded => "a queue or a limit is full",
        Kind::DiskFull => "the disk is full",
        Kind::Forgotten => "the answer to this request id is no longer remembered: outcome unknown",
        Kind::LostLeadership => "the store leader changed while the request was in flight: outcome unknown",
        Kind::Generation => "client and cluster are of different generations",
        Kind::WrongCluster => "this is another cluster",
        Kind::SerialReused => "the serial was used for another request",
        Kind::Membership | Kind::Level => return with_hint(detail, detail.limit.clone()),
        Kind::Unspecified => "refused",
    };
    let mut text = what.to_owned();
    for (name, part) in [("", &detail.field), ("", &detail.value), ("limit ", &detail.limit)] {
        if !part.is_empty() {
            text = format!("{text}: {name}{part}");
        }
    }
    if detail.current_token != 0 {
        text = format!("{text}: current token {}", detail.current_token);
    }
    if let Some(leader) = &detail.store_leader {
        text = format!("{text}: store leader is node {} at {}", leader.node_id, leader.address);
    }
    with_hint(detail, text)
}

fn with_hint(detail: &ErrorDetail, text: String) -> String {
    if detail.hint.is_empty() { text } else { format!("{text} ({})", detail.hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> impl Iterator<Item = Kind> {
        (0..64).filter_map(|number| Kind::try_from(number).ok())
    }

    #[test]
    fn a_refusal_survives_the_status_whole() {
        for kind in kinds() {
            let detail = ErrorDetail {
                field: "key".to_owned(),
                value: "4097 bytes".to_owned(),
                limit: "1 to 4096 bytes".to_owned(),
                current_token: 7,
                ..not_applied(kind, "shorten it")
            };
            let status = refuse(detail.clone());
            assert_eq!(super::detail(&status), Some(detail), "{kind:?}");
            assert_ne!(status.code(), Code::Ok);
            assert!(!status.message().is_empty());
        }
        assert_eq!(kinds().count(), 23, "a new kind wants a code, a sentence and a row here");
    }

    #[test]
    fn a_status_without_our_detail_says_nothing() {
        assert_eq!(detail(&Status::unavailable("gone")), None);
        assert_eq!(detail(&Status::with_details(Code::Aborted, "x", Bytes::from_static(b"\xff\xff"))), None);
        let other = RpcStatus {
            code: 9,
            message: String::new(),
            details: vec![Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value: vec![] }],
        };
        assert_eq!(detail(&Status::with_details(Code::Aborted, "x", Bytes::from(other.encode_to_vec()))), None);
    }

    #[test]
    fn only_a_known_outcome_may_be_read_as_not_applied() {
        assert_eq!(code(&ErrorDetail::default()), Code::Unknown);
        assert_eq!(ErrorDetail::default().outcome(), Outcome::Unspecified);
        assert_eq!(unknown(Kind::Forgotten, "").outcome(), Outcome::Unknown);
    }

    #[test]
    fn bad_input_is_named_with_its_value_and_its_limit() {
        let detail = ErrorDetail {
            field: "key".to_owned(),
            value: "4097 bytes".to_owned(),
            limit: "1 to 4096 bytes".to_owned(),
            ..not_applied(Kind::InvalidArgument, "")
        };
        assert_eq!(refuse(detail).message(), "key: '4097 bytes' is not allowed: 1 to 4096 bytes");
    }
}
