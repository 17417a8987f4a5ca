//! A restore from a backup, as whoever restored it knows it.

use super::FoundKey;

/// A cluster has begun anew with a backup: what came after the backup is as if it had never been.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restoration {
    /// Of the new cluster.
    pub generation: u32,
    /// Of the state in the backup.
    pub backup: Place,
    /// Of the state that the new cluster begins with.
    pub begins: Place,
}

/// A place in the order of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Commands until then.
    pub seq: u64,
    /// Changes of keys until then.
    pub revision: u64,
}

/// What is in a state without sessions, as a cluster begins with one after a restore.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beginning {
    /// Of the cluster.
    pub generation: u32,
    /// Of the state.
    pub revision: u64,
    /// Elections that somebody leads.
    pub led: usize,
    /// All keys, in order.
    pub keys: Vec<FoundKey>,
}
