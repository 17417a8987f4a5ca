//! What a refused caller is told, and how it reads that.

use palisade_fence::{Token, metadata};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Why a fence refused a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// A later leader is known there.
    Stale,
    /// The token is above what could be confirmed, or above the leader's that was called.
    Ahead,
    /// No leader of that election there, and no guard for it.
    NotLeader,
}

/// A fence's refusal, as a caller reads it off a status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Why.
    pub why: Why,
    /// The receiver's token, if it knows one.
    pub current: Option<Token>,
    /// Where the leader is, if that is known.
    pub leader: Option<String>,
    /// Whether the call surely did not run. If not, it had begun, and what had not happened by then never will.
    pub surely_not_handled: bool,
}

impl Refused {
    /// The refusal in a status; `None`: no fence refused it.
    pub fn of(status: &Status) -> Option<Refused> {
        let text = |name: &str| status.metadata().get(name).and_then(|value| value.to_str().ok());
        let why = match text(metadata::FENCE)? {
            metadata::STALE => Why::Stale,
            metadata::AHEAD => Why::Ahead,
            metadata::NOT_LEADER => Why::NotLeader,
            _ => return None,
        };
        Some(Refused {
            why,
            current: text(metadata::CURRENT_TOKEN).and_then(|token| token.parse().ok()),
            leader: text(metadata::LEADER).map(str::to_owned),
            surely_not_handled: text(metadata::OUTCOME) == Some(metadata::NOT_HANDLED),
        })
    }
}

pub(crate) fn stale(current: Option<Token>, leader: Option<&str>) -> Status {
    refusal("refused: the token is stale", metadata::STALE, metadata::NOT_HANDLED, current, leader)
}

/// Its handler had begun, and was taken away.
pub(crate) fn superseded(current: Option<Token>, leader: Option<&str>) -> Status {
    refusal("superseded while it was handled", metadata::STALE, metadata::UNKNOWN, current, leader)
}

pub(crate) fn ahead(current: Option<Token>, leader: Option<&str>) -> Status {
    refusal("refused: the receiver is behind the token", metadata::AHEAD, metadata::NOT_HANDLED, current, leader)
}

pub(crate) fn not_leader(current: Option<Token>, leader: Option<&str>) -> Status {
    let why = "refused: no leader of that election here";
    refusal(why, metadata::NOT_LEADER, metadata::NOT_HANDLED, current, leader)
}

/// The metadata lacks something, or cannot be read.
pub(crate) fn invalid(why: impl Into<String>) -> Status {
    with_outcome(Status::new(Code::InvalidArgument, why), metadata::NOT_HANDLED)
}

/// The higher token could not be written down.
pub(crate) fn not_durable(why: &str) -> Status {
    let why = format!("refused: the guard could not be made durable: {why}");
    with_outcome(Status::new(Code::Unavailable, why), metadata::NOT_HANDLED)
}

fn refusal(
    why: &str,
    fence: &'static str,
    outcome: &'static str,
    current: Option<Token>,
    leader: Option<&str>,
) -> Status {
    let mut status = with_outcome(Status::new(Code::FailedPrecondition, why), outcome);
    let trailers = status.metadata_mut();
    trailers.insert(metadata::FENCE, MetadataValue::from_static(fence));
    if let Some(current) = current.and_then(|token| MetadataValue::try_from(token.to_string()).ok()) {
        trailers.insert(metadata::CURRENT_TOKEN, current);
    }
    if let Some(leader) = leader.and_then(|leader| MetadataValue::try_from(leader).ok()) {
        trailers.insert(metadata::LEADER, leader);
    }
    status
}

fn with_outcome(mut status: Status, outcome: &'static str) -> Status {
    status.metadata_mut().insert(metadata::OUTCOME, MetadataValue::from_static(outcome));
    status
}
