//! What can go wrong with a call, and whether the message surely was not handled. Keeps true: an unknown outcome is never
//! called a failure.

use std::time::Duration;

use bytes::Bytes;
use palisade_fence::Token;

/// What is known about the message's effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Surely not handled: it may be sent again.
    NotHandled,
    /// It may have been handled, in part or in full, or may still be.
    Unknown,
    /// It was handled.
    Handled,
}

/// Why a call was not answered. Variants are named by what the caller can do about them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The receiver knows a later leader than the token's. Not handled.
    #[error("refused: the token is stale{}", known(.current, .leader))]
    Stale {
        /// The receiver's token.
        current: Option<Token>,
        /// Where the leader is.
        leader: Option<String>,
    },
    /// The token is higher than anything the receiver could confirm. Not handled; sending again later may succeed.
    #[error("refused: the receiver is behind the token{}", known(.current, .leader))]
    Ahead {
        /// The receiver's token.
        current: Option<Token>,
        /// Where the leader is.
        leader: Option<String>,
    },
    /// The receiver does not lead, or keeps no guard for that election. Not handled; look for the leader.
    #[error("refused: no leader of that election here{}", known(.current, .leader))]
    NotLeader {
        /// The present leader's token.
        current: Option<Token>,
        /// Where the leader is.
        leader: Option<String>,
    },
    /// The endpoint is fenced and the message carries no token, or no election. Not handled.
    #[error("refused: a fenced endpoint was called without {0}")]
    NoToken(&'static str),
    /// This process does not lead, so that there is no token to send under. Not sent.
    #[error("not sent: this process does not lead")]
    NotLeading,
    /// The endpoint was not started, or `on_start` has not ended. Not handled.
    #[error("refused: the endpoint is not started")]
    NotStarted,
    /// There is no such endpoint in that process, or it ended before the message's turn. Not handled.
    #[error("unreachable: no endpoint '{endpoint}'")]
    NoSuchEndpoint {
        /// Its id.
        endpoint: String,
    },
    /// The endpoint does not have that method. Not handled.
    #[error("refused: no method '{method}'")]
    NoSuchMethod {
        /// Interface and method.
        method: String,
    },
    /// The message cannot be read. Not handled.
    #[error("refused: {why}")]
    Invalid {
        /// What is wrong.
        why: String,
    },
    /// A bounded queue is full. Not handled; slow down.
    #[error("overloaded: more than {limit} messages wait")]
    Overloaded {
        /// The queue's bound.
        limit: u64,
    },
    /// The message is larger than may be sent. Not sent.
    #[error("too large: {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The deadline passed before the message was taken from the mailbox. Not handled.
    #[error("expired before it was handled")]
    Expired,
    /// There is no connection. Not sent.
    #[error("unreachable: {why}")]
    Unreachable {
        /// What was tried.
        why: String,
    },
    /// The worker could not write down the higher token. Not handled.
    #[error("refused: the guard could not be made durable: {why}")]
    GuardNotDurable {
        /// The disk's words.
        why: String,
    },
    /// No answer within the time limit. Unknown.
    #[error("no answer within {limit:?}: outcome unknown")]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The connection broke after the message was sent. Unknown.
    #[error("disconnected: outcome unknown: {why}")]
    Disconnected {
        /// What ended the stream.
        why: String,
    },
    /// Handling had begun under a token that is no longer the highest; the rest was dropped. Unknown.
    #[error("superseded while it was handled{}", known(.current, .leader))]
    Superseded {
        /// The receiver's token now.
        current: Option<Token>,
        /// Where the leader is.
        leader: Option<String>,
    },
    /// The endpoint panicked. Unknown.
    #[error("the endpoint failed: {why}")]
    EndpointFailed {
        /// The panic's message.
        why: String,
    },
    /// The endpoint ended while it handled the message. Unknown.
    #[error("the endpoint ended while it handled the message")]
    EndpointGone,
    /// The caller gave up while it was handled. Unknown.
    #[error("cancelled while it was handled")]
    Cancelled,
    /// The answer is larger than may be sent. Handled.
    #[error("handled, but the answer is too large: {size} bytes, the limit is {limit}")]
    ReplyTooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The answer cannot be read: another version of the interface? Handled, or unknown: taken as unknown.
    #[error("the answer cannot be read: {why}")]
    BadReply {
        /// What is wrong.
        why: String,
    },
    /// The endpoint handled the message and says no, in the application's own terms.
    #[error(transparent)]
    App(#[from] AppError),
}

impl RpcError {
    /// What is known about the message's effect.
    pub fn outcome(&self) -> Outcome {
        match self {
            RpcError::Stale { .. }
            | RpcError::Ahead { .. }
            | RpcError::NotLeader { .. }
            | RpcError::NoToken(_)
            | RpcError::NotLeading
            | RpcError::NotStarted
            | RpcError::NoSuchEndpoint { .. }
            | RpcError::NoSuchMethod { .. }
            | RpcError::Invalid { .. }
            | RpcError::Overloaded { .. }
            | RpcError::TooLarge { .. }
            | RpcError::Expired
            | RpcError::Unreachable { .. }
            | RpcError::GuardNotDurable { .. } => Outcome::NotHandled,
            RpcError::TimedOut { .. }
            | RpcError::Disconnected { .. }
            | RpcError::Superseded { .. }
            | RpcError::EndpointFailed { .. }
            | RpcError::EndpointGone
            | RpcError::Cancelled
            | RpcError::BadReply { .. } => Outcome::Unknown,
            RpcError::ReplyTooLarge { .. } | RpcError::App(_) => Outcome::Handled,
        }
    }

    /// Whether the token was the reason: stale, ahead, or nobody leads here.
    pub fn is_fenced(&self) -> bool {
        matches!(
            self,
            RpcError::Stale { .. } | RpcError::Ahead { .. } | RpcError::NotLeader { .. } | RpcError::Superseded { .. }
        )
    }

    /// The receiver's current token, if it said one.
    pub fn current_token(&self) -> Option<Token> {
        match self {
            RpcError::Stale { current, .. }
            | RpcError::Ahead { current, .. }
            | RpcError::NotLeader { current, .. }
            | RpcError::Superseded { current, .. } => *current,
            _ => None,
        }
    }

    /// The leader's address, if the receiver said one.
    pub fn leader(&self) -> Option<&str> {
        match self {
            RpcError::Stale { leader, .. }
            | RpcError::Ahead { leader, .. }
            | RpcError::NotLeader { leader, .. }
            | RpcError::Superseded { leader, .. } => leader.as_deref(),
            _ => None,
        }
    }

    /// The application's own refusal as the error type that it was made from: `None` if it is not one of those, or none at all.
    pub fn fault<F: AppFault>(&self) -> Option<F> {
        self.app().and_then(F::from_app)
    }

    /// The application's own refusal, if it is one.
    pub fn app(&self) -> Option<&AppError> {
        match self {
            RpcError::App(error) => Some(error),
            _ => None,
        }
    }
}

fn known(current: &Option<Token>, leader: &Option<String>) -> String {
    match (current, leader) {
        (Some(token), Some(leader)) => format!(" (current token {token}, leader at {leader})"),
        (Some(token), None) => format!(" (current token {token})"),
        (None, Some(leader)) => format!(" (leader at {leader})"),
        (None, None) => String::new(),
    }
}

/// An endpoint's own refusal; travels whole to the caller.
#[derive(Clone, Debug, PartialEq, Eq, Default, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct AppError {
    /// The application's own number.
    pub code: u32,
    /// For people.
    pub message: String,
    /// For programs: a message of the application's own, say.
    pub details: Bytes,
}

/// An error type of an application's own: an endpoint refuses with it, and its callers get it back, through [`RpcError::fault`].
pub trait AppFault: Sized {
    /// As it travels.
    fn to_app(&self) -> AppError;

    /// As it was; `None` for what is none of it. Errors of later versions should have a variant to fall back on.
    fn from_app(error: &AppError) -> Option<Self>;
}

impl<F: AppFault> From<F> for AppError {
    fn from(fault: F) -> AppError {
        fault.to_app()
    }
}

impl AppError {
    /// An error whose details are a message.
    pub fn with_details(code: u32, message: impl Into<String>, details: &impl prost::Message) -> AppError {
        AppError { code, message: message.into(), details: details.encode_to_vec().into() }
    }

    /// The details as that message; `None` if they are none.
    pub fn details_as<M: prost::Message + Default>(&self) -> Option<M> {
        M::decode(self.details.clone()).ok()
    }

    /// An error without details.
    pub fn new(code: u32, message: impl Into<String>) -> AppError {
        AppError { code, message: message.into(), details: Bytes::new() }
    }
}

/// Why a gateway could not be connected. Nothing was sent to the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No connection to that process.
    #[error("no connection to {address}: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// What was tried.
        why: String,
    },
    /// The process is there, the endpoint is not.
    #[error("no endpoint at {address}")]
    NoSuchEndpoint {
        /// Where.
        address: String,
    },
    /// The other side speaks another version of the envelope, or the endpoint does not serve the interface.
    #[error("handshake with {address}: {why}")]
    Handshake {
        /// Where.
        address: String,
        /// What differs.
        why: String,
    },
    /// This process has seen a higher token of that election: a gateway never goes back.
    #[error("token {token} of election '{election}' is stale: {seen} has been seen")]
    Stale {
        /// Its name.
        election: String,
        /// The token that was given.
        token: Token,
        /// The highest seen.
        seen: Token,
    },
    /// The service is closed.
    #[error("the RPC service is closed")]
    Closed,
}
