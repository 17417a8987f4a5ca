//! The memory of a guard that outlives its process. Only the contract: where it is kept is the implementer's business.

use std::fmt;

use crate::{ClusterId, Token};

/// A guard that outlives the process. Called only when a leader changes, on the task that changes it: each call may block for
/// one write to disk, not longer.
pub trait DurableGuard: Send + Sync + 'static {
    /// The highest token that was accepted in an earlier life; `None` if there was none.
    fn load(&self, cluster: ClusterId, election: &str) -> Result<Option<Token>, DurableGuardError>;

    /// Writes a higher token down; returns when it would survive a power cut. Never called with a lower one.
    fn raise(&self, cluster: ClusterId, election: &str, token: Token) -> Result<(), DurableGuardError>;
}

/// The guard could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurableGuardError {
    /// The disk's words.
    pub why: String,
}

impl fmt::Display for DurableGuardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guard: {}", self.why)
    }
}

impl std::error::Error for DurableGuardError {}
