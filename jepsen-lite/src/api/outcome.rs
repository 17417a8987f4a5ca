//! How an operation ended, read from what the store says about it and from nothing else.

use prost::Message;

use super::v1;
use super::v1::error_detail::Kind;

/// How an operation ended.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    Ok(T),
    /// Surely no effect, and what the store says about it.
    Fail(Box<v1::ErrorDetail>),
    /// Nobody knows.
    Info(String),
}

impl<T> Outcome<T> {
    /// Only the typed detail can say "surely no effect"; a status without it is unknown.
    pub(crate) fn of(answer: Result<T, tonic::Status>) -> Outcome<T> {
        let status = match answer {
            Ok(value) => return Outcome::Ok(value),
            Err(status) => status,
        };
        match detail(&status) {
            Some(detail) if detail.outcome() == v1::error_detail::Outcome::NotApplied => {
                Outcome::Fail(Box::new(detail))
            }
            Some(detail) => Outcome::Info(kind(&detail)),
            None => Outcome::Info(format!("{:?}: {}", status.code(), status.message())),
        }
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Outcome::Ok(value) => Outcome::Ok(change(value)),
            Outcome::Fail(detail) => Outcome::Fail(detail),
            Outcome::Info(why) => Outcome::Info(why),
        }
    }

    pub(crate) fn ok(self) -> Option<T> {
        if let Outcome::Ok(value) = self { Some(value) } else { None }
    }
}

/// The kind of a refusal as histories have it: `stale` for a stale token, else its name in small letters.
pub(crate) fn kind(detail: &v1::ErrorDetail) -> String {
    match detail.kind() {
        Kind::StaleToken => "stale".to_owned(),
        other => other.as_str_name().to_lowercase(),
    }
}

/// google.rpc.Status, as far as we read it.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// The store's typed detail, if the status carries one.
pub(crate) fn detail(status: &tonic::Status) -> Option<v1::ErrorDetail> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let ours = details.iter().find(|any| any.type_url.ends_with("/palisade.coord.v1.ErrorDetail"))?;
    v1::ErrorDetail::decode(ours.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(outcome: v1::error_detail::Outcome, kind: Kind) -> tonic::Status {
        let detail = v1::ErrorDetail { outcome: outcome.into(), kind: kind.into(), ..v1::ErrorDetail::default() };
        let type_url = "type.googleapis.com/palisade.coord.v1.ErrorDetail".to_owned();
        let details = RpcStatus { details: vec![Any { type_url, value: detail.encode_to_vec() }] };
        tonic::Status::with_details(tonic::Code::Unavailable, "m", details.encode_to_vec().into())
    }

    #[test]
    fn only_the_typed_detail_says_that_there_was_no_effect() {
        use v1::error_detail::Outcome::{NotApplied, Unknown, Unspecified};
        let of = |status| Outcome::<()>::of(Err(status));
        let stale = of(status(NotApplied, Kind::StaleToken));
        assert!(matches!(stale, Outcome::Fail(detail) if super::kind(&detail) == "stale"));
        assert!(matches!(of(status(Unknown, Kind::LostLeadership)), Outcome::Info(why) if why == "lost_leadership"));
        assert!(matches!(of(status(Unspecified, Kind::Overloaded)), Outcome::Info(_)));
        for code in [tonic::Code::Unavailable, tonic::Code::NotFound, tonic::Code::InvalidArgument] {
            assert!(matches!(of(tonic::Status::new(code, "no detail")), Outcome::Info(_)), "{code:?}");
        }
    }
}
