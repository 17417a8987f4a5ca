//! The only crate that knows openraft.
//!
//! What stands here so far is the API that the crates above are written against; the bodies come next.
#![allow(unused_variables, missing_docs)]

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use palisade_storage::{LogEngine, SnapshotStore};
use palisade_world::World;
use tokio::sync::watch;

/// The state machine that is replicated.
pub trait Machine: Send + Sync + 'static {
    type Reply: Send + Sync + Debug + 'static;
    fn apply(&self, index: u64, entry: Bytes) -> Self::Reply;
    fn snapshot(&self) -> Bytes;
    fn restore(&self, data: Bytes) -> Result<(), MachineError>;
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
pub struct MachineError {
    pub why: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub node_id: u64,
    pub address: String,
    pub store_id: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timings {
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            heartbeat: Duration::from_millis(40),
            election_min: Duration::from_millis(120),
            election_max: Duration::from_millis(240),
        }
    }
}

#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    pub node_id: u64,
    pub store_id: u64,
    pub address: String,
    pub timings: Timings,
    pub snapshot_every: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
pub struct StartError {
    pub why: String,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    #[error("not the store leader")]
    NotLeader { hint: Option<Peer> },
    #[error("unknown: {why}")]
    Unknown { why: String },
    #[error("overloaded")]
    Overloaded,
    #[error("stopped")]
    Stopped,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("not the store leader")]
    NotLeader { hint: Option<Peer> },
    #[error("no quorum")]
    NoQuorum,
    #[error("stopped")]
    Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    pub term: u64,
    pub node: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    Learner,
    Waiting,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("waiting")
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub peer: Peer,
    pub voter: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaStatus {
    pub role: Role,
    pub leadership: Option<Leadership>,
    pub store_leader: Option<Peer>,
    pub term: u64,
    pub applied: u64,
    pub committed: u64,
    pub members: Vec<Member>,
    pub fatal: Option<String>,
}

/// Whether this node may vote; closed until formation opens it.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn closed() -> Gate {
        Gate(watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }
}

/// What another node says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    pub node_id: u64,
    pub store_id: u64,
    /// 0: none yet.
    pub cluster_id: u64,
    /// Whether it has a membership.
    pub initialized: bool,
    /// The store id that its membership names for the asker.
    pub names_you: Option<u64>,
}

pub struct Replica<M: Machine>(Arc<M>);

impl<M: Machine> Clone for Replica<M> {
    fn clone(&self) -> Self {
        Replica(Arc::clone(&self.0))
    }
}

impl<M: Machine> Replica<M> {
    pub async fn start(
        config: ReplicaConfig,
        engine: Arc<dyn LogEngine>,
        snapshots: Arc<dyn SnapshotStore>,
        machine: Arc<M>,
        world: World,
    ) -> Result<Replica<M>, StartError> {
        panic!("not yet")
    }

    pub async fn hello(&self, address: &str) -> Result<Hello, StartError> {
        panic!("not yet")
    }

    pub fn is_initialized(&self) -> bool {
        panic!("not yet")
    }

    pub async fn initialize(&self, peers: Vec<Peer>) -> Result<(), StartError> {
        panic!("not yet")
    }

    pub async fn propose(&self, entry: Bytes) -> Result<M::Reply, ProposeError> {
        panic!("not yet")
    }

    pub async fn propose_as(&self, leadership: Leadership, entry: Bytes) -> Result<M::Reply, ProposeError> {
        panic!("not yet")
    }

    pub async fn confirm_leadership(&self) -> Result<Leadership, ReadError> {
        panic!("not yet")
    }

    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        panic!("not yet")
    }

    pub fn status(&self) -> watch::Receiver<ReplicaStatus> {
        panic!("not yet")
    }

    pub async fn shutdown(&self) {
        panic!("not yet")
    }
}
