//! Single requests: where to send them, when to send them again, and when not to.
//!
//! Keeps true: a request is repeated only if it is surely not applied, or if repeating it cannot take effect twice. Once an
//! attempt may have been applied, only an answer of the state machine itself can say what became of it: a later "not
//! applied" of some node is about that attempt alone.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use palisade_planted::{self as planted, Bug};
use palisade_wire::coord::v1;
use palisade_wire::coord::v1::ErrorDetail;
use palisade_wire::coord::v1::error_detail::{Kind, Outcome as WireOutcome};
use palisade_wire::status;
use palisade_world::{Task, World};
use tonic::{Response, Status};

use crate::backoff::{AT_MOST, Backoff};
use crate::course::Course;
use crate::links::{Asking, Channel, Links, Purpose};
use crate::seen::{Position, Seen};
use crate::stream_links::StreamLinks;
use crate::way_back::WaysBack;
use crate::{Error, ErrorKind, Header, Outcome};

/// How long one node may take to answer a request that may be sent again: then another is asked.
const ATTEMPT: Duration = Duration::from_secs(1);

/// What repeating a request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Repeat {
    /// It has no effect.
    Read,
    /// It has no effect, and any node may answer: who does need not lead the store.
    ReadAnywhere,
    /// It takes effect once, because it carries a request id or is idempotent.
    Safe,
    /// It may take effect twice: sent again only if it was surely not applied.
    Unsafe,
}

impl Repeat {
    fn is_read(self) -> bool {
        match self {
            Repeat::Read | Repeat::ReadAnywhere => true,
            Repeat::Safe | Repeat::Unsafe => false,
        }
    }
}

/// An answer that says where it stands.
pub(crate) trait Answer {
    fn header(&self) -> Header;
}

macro_rules! answers {
    ($($reply:ident),*) => {
        $(impl Answer for v1::$reply {
            fn header(&self) -> Header {
                Header::of(self.header.as_ref())
            }
        })*
    };
}
answers!(
    PutReply,
    GetReply,
    DeleteReply,
    RangeReply,
    TxnReply,
    CompactReply,
    LeaderReply,
    ListElectionsReply,
    ProclaimReply,
    ResignReply,
    HistoryReply,
    TransferReply,
    WithdrawReply,
    CloseSessionReply,
    ListSessionsReply,
    MembersReply,
    RaiseLevelReply
);

/// What all parts of a client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) world: World,
    pub(crate) links: Links,
    pub(crate) stream_links: StreamLinks,
    pub(crate) ways_back: WaysBack,
    pub(crate) seen: Seen,
    pub(crate) request_timeout: Duration,
    /// Keeps the addresses of the members; started with the first use.
    pub(crate) members: OnceLock<Task<()>>,
}

/// What became of one attempt.
pub(crate) enum Attempt<T> {
    Done(T),
    /// For good.
    Failed(Error),
    /// Surely not applied; `hint` says who would apply it.
    NotApplied {
        error: Error,
        hint: Option<String>,
    },
    /// Surely not applied: there was no connection.
    NotReached(Error),
    /// It may have been applied.
    Unknown(Error),
}

impl Shared {
    /// Sends a request until it is answered, within the request timeout. Dropping the future stops repeating; what was
    /// sent may be applied.
    pub(crate) async fn request<T, F, Fut>(self: &Arc<Self>, repeat: Repeat, send: F) -> Result<T, Error>
    where
        T: Answer,
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.keep_members();
        let give_up_at = self.world.now() + self.request_timeout;
        let floor = self.seen.newest();
        let mut course = Course::new(&self.links, Backoff::up_to(AT_MOST));
        course.attempt(&self.links, &self.world);
        // Set by the first attempt that may have been applied.
        let mut unknown: Option<Error> = None;
        loop {
            let left = give_up_at.saturating_sub(self.world.now());
            let asked = (course.asking(), course.address());
            let error = match self.attempt(repeat, asked, left, floor, &send).await {
                Attempt::Done(reply) => return Ok(reply),
                Attempt::Failed(error) => return Err(settled(error, unknown, repeat)),
                Attempt::NotApplied { error, hint } => {
                    course.turned_away(&self.links, hint);
                    error
                }
                Attempt::NotReached(error) => {
                    course.unanswered(&self.links);
                    error
                }
                Attempt::Unknown(error) if repeat == Repeat::Unsafe && !planted::is(Bug::RetryUnknownWithoutId) => {
                    // This one is over; the next request must not wait for the same silent node.
                    course.unanswered(&self.links);
                    return Err(error);
                }
                Attempt::Unknown(error) => {
                    unknown.get_or_insert_with(|| error.clone());
                    course.unanswered(&self.links);
                    error
                }
            };
            tracing::debug!(address = course.address(), %error, "a request is tried again");
            let pause = match error.kind {
                ErrorKind::Overloaded => course.pause(&self.world),
                _ => course.attempt(&self.links, &self.world),
            };
            if self.world.now() + pause >= give_up_at {
                return Err(settled(out_of_time(error), unknown, repeat));
            }
            if !pause.is_zero() {
                self.world.sleep(pause).await;
            }
        }
    }

    async fn attempt<T, F, Fut>(
        &self,
        repeat: Repeat,
        (asking, address): (Asking, &str),
        left: Duration,
        floor: Position,
        send: &F,
    ) -> Attempt<T>
    where
        T: Answer,
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = match self.links.channel_asking(asking, Purpose::Requests, address) {
            Ok(channel) => channel,
            Err(bad) => return Attempt::NotReached(unreachable(address, &bad.to_string())),
        };
        // Asking somebody else does not help where the request cannot be sent again.
        let limit = if repeat == Repeat::Unsafe { left } else { left.min(ATTEMPT) };
        // A gRPC call is some kilobytes of state, which every future around it would carry.
        let Some(answered) = self.world.timeout(limit, Box::pin(send(channel))).await else {
            self.links.forget(Purpose::Requests, address);
            let error = Error::unknown(ErrorKind::TimedOut, format!("{address}: no answer within {limit:?}"));
            return Attempt::Unknown(error);
        };
        match answered {
            Ok(reply) => self.judge(repeat, (asking, address), floor, reply.into_inner()),
            Err(status) => refused(address, &status),
        }
    }

    fn judge<T: Answer>(
        &self,
        repeat: Repeat,
        (asking, address): (Asking, &str),
        floor: Position,
        reply: T,
    ) -> Attempt<T> {
        let header = reply.header();
        if let Err(error) = self.seen.admit(&header) {
            return Attempt::Failed(error);
        }
        if repeat.is_read() && Position::of(&header) < floor {
            let message = format!("{address}: answered from before what this client has seen");
            return Attempt::NotApplied { error: Error::not_applied(ErrorKind::BadAnswer, message), hint: None };
        }
        if repeat != Repeat::ReadAnywhere && asking == Asking::Itself {
            self.links.leads(address);
        }
        Attempt::Done(reply)
    }
}

/// What a status says about the attempt that it answers.
fn refused<T>(address: &str, status: &Status) -> Attempt<T> {
    let Some(detail) = status::detail(status) else {
        if never_connected(status) {
            return Attempt::NotReached(unreachable(address, status.message()));
        }
        let message = format!("{address}: no answer: {}", status.message());
        return Attempt::Unknown(Error::unknown(ErrorKind::ConnectionLost, message));
    };
    refused_with(&detail)
}

/// What our own refusal says about the attempt that it answers.
pub(crate) fn refused_with<T>(detail: &ErrorDetail) -> Attempt<T> {
    let error = Error::refused(detail);
    let replicated = detail.header.is_some();
    match (detail.outcome(), detail.kind()) {
        (WireOutcome::NotApplied, Kind::NotStoreLeader | Kind::NoStoreLeader) => {
            let hint = error.store_leader.clone().filter(|hint| !hint.is_empty());
            Attempt::NotApplied { error, hint }
        }
        // "Repeat later", and a race that was lost. As the state machine's own outcome it is final: a table is full.
        (WireOutcome::NotApplied, Kind::Overloaded | Kind::Unspecified) if !replicated => {
            Attempt::NotApplied { error, hint: None }
        }
        (WireOutcome::NotApplied, _) | (_, Kind::Forgotten) => Attempt::Failed(error),
        (WireOutcome::Unknown | WireOutcome::Unspecified, _) => Attempt::Unknown(error),
    }
}

/// The error of a request of which an earlier attempt may have been applied.
pub(crate) fn settled(error: Error, unknown: Option<Error>, repeat: Repeat) -> Error {
    if repeat.is_read() {
        return error.of_a_read();
    }
    match unknown {
        // The memory of answers is looked up before everything else, so the state machine's word covers all attempts.
        Some(_) if error.is_replicated => error,
        Some(first) => Error {
            outcome: Outcome::Unknown,
            message: format!("{} (then: {})", first.message, error.message),
            ..first
        },
        None => error,
    }
}

pub(crate) fn out_of_time(error: Error) -> Error {
    match error.outcome {
        Outcome::NotApplied => Error {
            hint: "are the nodes running, and do a majority of them reach each other?".to_owned(),
            kind: if error.kind == ErrorKind::NotStoreLeader { ErrorKind::NoStoreLeader } else { error.kind },
            ..error
        },
        Outcome::Unknown => error,
    }
}

fn unreachable(address: &str, why: &str) -> Error {
    Error::not_applied(ErrorKind::NoStoreLeader, format!("{address}: no connection: {why}"))
}

/// Whether the request cannot have left this process: its connection did not come about.
fn never_connected(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_not_applied_does_not_undo_an_unknown() {
        let unknown = || Some(Error::unknown(ErrorKind::ConnectionLost, "lost"));
        let refused = Error::not_applied(ErrorKind::NoStoreLeader, "electing");
        let error = settled(refused.clone(), unknown(), Repeat::Safe);
        assert_eq!((error.outcome, error.kind), (Outcome::Unknown, ErrorKind::ConnectionLost));
        let final_word = Error { is_replicated: true, ..Error::not_applied(ErrorKind::StaleToken, "stale") };
        assert_eq!(settled(final_word.clone(), unknown(), Repeat::Safe), final_word);
        assert_eq!(settled(refused.clone(), None, Repeat::Safe), refused);
    }

    #[test]
    fn a_read_is_never_unknown() {
        let error = settled(Error::unknown(ErrorKind::TimedOut, "late"), None, Repeat::Read);
        assert_eq!(error.outcome, Outcome::NotApplied);
    }

    #[test]
    fn a_status_without_our_detail_is_unknown() {
        for status in [Status::unavailable("gone"), Status::failed_precondition("no"), Status::invalid_argument("bad")]
        {
            assert!(matches!(refused::<()>("a:1", &status), Attempt::Unknown(_)), "{status:?}");
        }
        let refusal = status::refuse(status::not_applied(Kind::NotStoreLeader, ""));
        assert!(matches!(refused::<()>("a:1", &refusal), Attempt::NotApplied { .. }));
    }
}
