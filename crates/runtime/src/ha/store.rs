//! The seam to the coordination store: linearizable reads, and fenced writes with request ids. The client crate implements it;
//! tests implement it with answers that get lost.
//!
//! It decides nothing about repeating: [`super::JobStore`] does.

use async_trait::async_trait;
use palisade_fence::{Fence, Token};
use thiserror::Error;

/// Names one write. The same key means the same write, however often it is sent: the store applies it once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestKey(pub u64);

/// A read did not come back in time. Says nothing about the key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the store could not be read: {0}")]
pub struct GetError(pub String);

/// What is known about a write that was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PutError {
    /// Another leader has been elected: not applied, and this leader is none any more.
    #[error("the token is stale (current: {current:?})")]
    Stale {
        /// The election's token now, if the store said.
        current: Option<Token>,
    },
    /// Not applied, and it will not be: the request is wrong.
    #[error("refused: {0}")]
    Refused(String),
    /// Not applied; may be sent again.
    #[error("not applied: {0}")]
    NotApplied(String),
    /// It may have been applied, or may still be. Only the same write under the same [`RequestKey`] can tell.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The session that numbers the writes has ended: nothing can be found out any more, and the leadership is over.
    #[error("the session has ended: {0}")]
    SessionEnded(String),
}

/// The coordination store, as far as high availability needs it.
#[async_trait]
pub trait HaStore: Send + Sync + 'static {
    /// A linearizable read. Cancelling it is harmless.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, GetError>;

    /// A number for a new write. It is to be given back with [`HaStore::forget`] when the write's outcome is known.
    fn begin(&self) -> Result<RequestKey, PutError>;

    /// One attempt at a write; `value` of `None` deletes the key. After cancelling it the outcome is unknown.
    async fn put(&self, request: RequestKey, key: &str, value: Option<&[u8]>, fence: &Fence) -> Result<(), PutError>;

    /// The outcome of this write is known: it will not be sent again.
    fn forget(&self, request: RequestKey);
}
