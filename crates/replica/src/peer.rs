//! Who the nodes are: names without behaviour.

use std::fmt;

use crate::{Cluster, Level};

/// A node: its id, where it is reached, and which data folder speaks for it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Peer {
    /// Unique in the cluster, for ever.
    pub node_id: u64,
    /// `HOST:PORT`.
    pub address: String,
    /// Of the data folder that the membership binds to the id. Nothing from another folder counts. 0: it has not joined yet, and
    /// nothing from it counts at all.
    pub store_id: u64,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} ({})", self.node_id, self.address)
    }
}

/// A node of the cluster and its part in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The node.
    pub peer: Peer,
    /// Whether it votes. A learner only listens.
    pub voter: bool,
}

/// What a node says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Its id.
    pub node_id: u64,
    /// Its data folder.
    pub store_id: u64,
    /// As far as it knows it.
    pub cluster: Cluster,
    /// Whether it has a cluster's log.
    pub initialized: bool,
    /// The store id that its membership names for the asker; `None`: it names no such node.
    pub names_you: Option<u64>,
    /// Drawn when it started; 0: unknown.
    pub process: u64,
    /// The highest committed entry that it has heard the asker's store acknowledge.
    pub acknowledged: Option<u64>,
    /// The asker was a member and is none any more, by a committed change.
    pub removed_you: bool,
    /// Whether its disk is full: it takes no leadership of the store.
    pub disk_is_full: bool,
    /// What it was restored from, until its cluster is formed.
    pub restored: Option<Restored>,
    /// Which level its program knows, and which one its state has.
    pub level: Level,
}

/// The backup that a node's folder was restored from. Two of the same `cluster`, `seq`, `bytes` and `crc32` are the same backup:
/// the generation is each folder's own, and the level is not said by programs from before it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restored {
    /// Of the backup; kept.
    pub cluster: u64,
    /// With which its cluster is to begin at least.
    pub generation: u32,
    /// Of the backup.
    pub seq: u64,
    /// Of the state that was backed up.
    pub bytes: u64,
    /// Of the state that was backed up.
    pub crc32: u32,
    /// Of the state that was backed up; the first, where it was not said.
    pub level: u32,
}

impl Restored {
    /// Whether it is the same backup.
    pub fn is_of(&self, other: &Restored) -> bool {
        Restored { generation: 0, level: 0, ..*self } == Restored { generation: 0, level: 0, ..*other }
    }
}
