//! What is replicated: a deterministic state machine over opaque entries. This crate never looks inside an entry.

use std::fmt::Debug;
use std::io;

use bytes::Bytes;

use crate::Member;

/// A state machine. All methods are short synchronous steps; they are called from one task, in the order of the log,
/// except [`Machine::cluster`].
pub trait Machine: Send + Sync + 'static {
    /// What a proposer is told about its entry.
    type Reply: Send + Sync + Debug + 'static;

    /// The state as it was at one moment.
    type Frozen: Frozen;

    /// Applies one entry. The same entries in the same order must give the same state and the same replies everywhere.
    /// A panic stops this node: skipping an entry would make the nodes differ.
    fn apply(&self, index: u64, entry: Bytes) -> Self::Reply;

    /// The state between the entry that was applied last and the next. Short: entries wait for it.
    fn freeze(&self) -> Self::Frozen;

    /// Replaces the whole state by one that [`Frozen::write`] gave, in pieces that may be cut elsewhere. Reads the pieces one by
    /// one; it may take long, on a thread that may block. An error of a piece is passed on.
    fn restore(&self, pieces: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), MachineError>;

    /// The members are these from this entry on. Told in the order of the log, once it is committed; after a snapshot, those that
    /// it names. For those who look on.
    fn members(&self, _index: u64, _members: &[Member]) {}

    /// Which level this program knows, and which one the state has. Called often, from any task.
    fn level(&self) -> Level {
        Level::default()
    }

    /// The cluster that the state belongs to, as far as it is known; sent with every call to another node. Called often,
    /// from any task.
    fn cluster(&self) -> Cluster;
}

/// A state that stays as it was while the machine goes on.
pub trait Frozen: Send + Sync + 'static {
    /// Gives all of it away, piece by piece, on a thread that may block. The same state gives the same bytes on every node: a
    /// transfer of a snapshot that one node began may be ended by another.
    ///
    /// # Errors
    /// What `take` says; nothing is given away after that.
    fn write(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
}

/// What programs of different versions agree on: the state has a level, and whoever does not know it must not take part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// The highest that this program knows; 0, of another node, if its program is from before there were levels.
    pub known: u32,
    /// Of the state.
    pub at: u32,
}

impl Default for Level {
    /// Before there were levels.
    fn default() -> Level {
        Level { known: 1, at: 1 }
    }
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
