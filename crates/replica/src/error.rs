//! What can go wrong, one enum per operation. Each variant says what is known about the effect.

use palisade_storage::StorageError;

use crate::Peer;

/// A replica did not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The timers contradict each other.
    #[error("timings: {why}")]
    Timings {
        /// How.
        why: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The store holds a backup of a level that this program does not know. It was not touched: a newer program can begin with it.
    #[error(
        "downgrade refused: the backup in this folder was written at level {at}, this program knows levels up to {known}; start a \
         newer one"
    )]
    Level {
        /// Of the backup.
        at: u32,
        /// The highest that this program knows.
        known: u32,
    },
    /// What the store holds is not what this program writes, or does not fit together.
    #[error("this node's store cannot be used: {why}")]
    Store {
        /// What is wrong.
        why: String,
    },
}

/// A cluster was not formed.
#[derive(Debug, thiserror::Error)]
pub enum InitializeError {
    /// This node has a log already; nothing was changed.
    #[error("this node belongs to a cluster already")]
    AlreadyInitialized,
    /// The list of members does not name this node with its store; nothing was changed.
    #[error("the members do not name this node and its store")]
    NotNamed,
    /// The state with which it was to begin could not be kept; nothing was changed.
    #[error("the state cannot be kept: {why}")]
    Store {
        /// Why.
        why: String,
    },
    /// Replication has stopped.
    #[error("replication has stopped: {why}")]
    Stopped {
        /// Why.
        why: String,
    },
}

/// An entry has no reply.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Not applied, and never will be: another node leads, or nobody does.
    #[error("this node does not lead the store")]
    NotLeader {
        /// Who leads, if known.
        hint: Option<Peer>,
    },
    /// Not applied: too many proposals are in flight.
    #[error("too many proposals are in flight")]
    Overloaded,
    /// Not applied: the replica was shut down, or had failed, before.
    #[error("replication has stopped")]
    Stopped,
    /// It may have been applied, or may yet be.
    #[error("the outcome is unknown: {why}")]
    Unknown {
        /// What broke.
        why: String,
    },
}

/// Leadership was not confirmed. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfirmError {
    /// Another node leads, or nobody does, or this node has not applied its own first entry yet.
    #[error("this node does not lead the store")]
    NotLeader {
        /// Who leads, if known.
        hint: Option<Peer>,
    },
    /// No quorum answered within the election timeout. This node may lead, and may have been replaced.
    #[error("no quorum confirms that this node leads")]
    NoQuorum,
    /// The replica was shut down, or has failed.
    #[error("replication has stopped")]
    Stopped,
}

/// A read cannot be served here and now. A read has no effect: repeating it is safe.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// Another node leads, or nobody does.
    #[error("this node does not lead the store")]
    NotLeader {
        /// Who leads, if known.
        hint: Option<Peer>,
    },
    /// No quorum answered within the election timeout.
    #[error("no quorum confirms that this node leads")]
    NoQuorum,
    /// The replica was shut down, or has failed.
    #[error("replication has stopped")]
    Stopped,
}

impl From<ConfirmError> for ReadError {
    fn from(error: ConfirmError) -> ReadError {
        match error {
            ConfirmError::NotLeader { hint } => ReadError::NotLeader { hint },
            ConfirmError::NoQuorum => ReadError::NoQuorum,
            ConfirmError::Stopped => ReadError::Stopped,
        }
    }
}

/// A node did not say who it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HelloError {
    /// The text is no address.
    #[error("{0}")]
    Address(String),
    /// It cannot be reached, or does not speak our language, or took too long.
    #[error("{address} does not answer: {why}")]
    NoAnswer {
        /// Whom we asked.
        address: String,
        /// What happened.
        why: String,
    },
}
