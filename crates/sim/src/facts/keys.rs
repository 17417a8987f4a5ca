//! What readers of many keys see.

/// The answer to a read of all keys under a prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ranged {
    /// The name of the read.
    pub read: String,
    /// What the keys begin with.
    pub prefix: String,
    /// The revision as of which they were asked for; `None`: as they are.
    pub asked: Option<u64>,
    /// At most so many were asked for; 0: all.
    pub limit: u64,
    /// Of the state that was read.
    pub seq: u64,
    /// Of that state.
    pub revision: u64,
    /// It promised less than to be linearizable.
    pub stale: bool,
    /// In the order of keys.
    pub found: Vec<FoundKey>,
    /// How many keys there are, also beyond the limit.
    pub count: u64,
}

/// A key that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundKey {
    /// The key.
    pub key: String,
    /// What it has.
    pub value: String,
    /// Of the write that brought it into being.
    pub create_revision: u64,
    /// Of the last write.
    pub mod_revision: u64,
    /// Writes since it came into being.
    pub version: u64,
    /// The session that it ends with; 0: none.
    pub session: u64,
}

/// Why a read of the past was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// It is forgotten.
    Compacted,
    /// It has not come yet.
    Future,
}
