//! Writes and reads of registers, as the processes that made them know them. A value is the name of the write that wrote it,
//! and no name comes twice: who reads a value knows which write it sees.

/// What a write does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Puts the write's name.
    Put,
    /// Removes the key.
    Delete,
    /// More than that, of other keys.
    Txn,
}

/// What is known of a write when it has ended. It is never refined without proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It took effect, once, with this answer.
    Applied {
        /// Of its command.
        seq: u64,
        /// After its command.
        revision: u64,
        /// Whether it changed anything: a removal of nothing does not.
        changed: bool,
    },
    /// It did not and will not take effect.
    NotApplied,
    /// It took effect once, or will, or not at all. A later answer to the same request may tell.
    Unknown,
}

/// What a linearizable read found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The value.
    pub write: String,
    /// Of the write that the value is from.
    pub mod_revision: u64,
    /// Of the first write since the key was last absent.
    pub create_revision: u64,
    /// Writes since then.
    pub version: u64,
}
