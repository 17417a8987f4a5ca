//! What is replicated: a deterministic state machine over opaque entries. This crate never looks inside an entry.

use std::fmt::Debug;

use bytes::Bytes;

use crate::Member;

/// A state machine. All methods are short synchronous steps; they are called from one task, in the order of the log,
/// except [`Machine::cluster`].
pub trait Machine: Send + Sync + 'static {
    /// What a proposer is told about its entry.
    type Reply: Send + Sync + Debug + 'static;

    /// Applies one entry. The same entries in the same order must give the same state and the same replies everywhere.
    /// A panic stops this node: skipping an entry would make the nodes differ.
    fn apply(&self, index: u64, entry: Bytes) -> Self::Reply;

    /// The whole state. Entries are not applied while it is taken.
    fn snapshot(&self) -> Bytes;

    /// Replaces the whole state by one that [`Machine::snapshot`] gave.
    fn restore(&self, data: Bytes) -> Result<(), MachineError>;

    /// The members are these from this entry on. Told in the order of the log, once it is committed; after a snapshot, those that
    /// it names. For those who look on.
    fn members(&self, _index: u64, _members: &[Member]) {}

    /// The cluster that the state belongs to, as far as it is known; sent with every call to another node. Called often,
    /// from any task.
    fn cluster(&self) -> Cluster;
}

/// Names a cluster and how often it was restored from a backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cluster {
    /// 0: not known yet, which fits every cluster.
    pub id: u64,
    /// Raised by each restore. Counts only beside a known id.
    pub generation: u32,
}

/// A snapshot cannot be restored: this node's store is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot cannot be restored: {why}")]
pub struct MachineError {
    why: String,
}

impl MachineError {
    /// Says why.
    pub fn new(why: impl Into<String>) -> MachineError {
        MachineError { why: why.into() }
    }
}
