//! The handle of a running replica.

use std::sync::Arc;

use bytes::Bytes;
use palisade_storage::{LogEngine, SnapshotStore};
use palisade_wire::replica::v1::replica_service_server::ReplicaServiceServer;
use palisade_world::World;
use tokio::sync::watch;

use crate::{
    ConfirmError, Gate, Hello, HelloError, InitializeError, Leadership, Machine, Peer, PeerService, ProposeError,
    ReadError, ReplicaConfig, ReplicaStatus, StartError,
};

/// The largest entry that may be proposed: above the largest batch, and half of what a peer accepts in one message.
pub const MAX_ENTRY_BYTES: usize = 4 << 20;

/// A running replica. Cheap to clone; the replica runs until [`Replica::shutdown`] or until the last handle is dropped.
pub struct Replica<M: Machine> {
    status: watch::Receiver<ReplicaStatus>,
    machine: Arc<M>,
}

impl<M: Machine> Clone for Replica<M> {
    fn clone(&self) -> Self {
        Replica { status: self.status.clone(), machine: Arc::clone(&self.machine) }
    }
}

impl<M: Machine> Replica<M> {
    /// Starts a replica from what its store holds.
    pub async fn start(
        _config: ReplicaConfig,
        _engine: Arc<dyn LogEngine>,
        _snapshots: Arc<dyn SnapshotStore>,
        _machine: Arc<M>,
        _world: World,
    ) -> Result<Replica<M>, StartError> {
        panic!("not yet")
    }

    /// Whether this node has a cluster's log.
    pub fn is_initialized(&self) -> bool {
        panic!("not yet")
    }

    /// Forms a cluster of these nodes, of which this is one. To be called on one of them, once.
    pub async fn initialize(&self, _peers: Vec<Peer>) -> Result<(), InitializeError> {
        panic!("not yet")
    }

    /// Has an entry applied. Never forwarded. Cancelling it does not take the entry back.
    pub async fn propose(&self, _entry: Bytes) -> Result<M::Reply, ProposeError> {
        panic!("not yet")
    }

    /// Has an entry applied if, at that moment, this node still leads the store under `leadership`.
    pub async fn propose_as(&self, _leadership: Leadership, _entry: Bytes) -> Result<M::Reply, ProposeError> {
        panic!("not yet")
    }

    /// Asks a quorum, in a round that begins after this call, whether this node leads the store.
    pub async fn confirm_leadership(&self) -> Result<Leadership, ConfirmError> {
        panic!("not yet")
    }

    /// When it returns, the machine has applied everything that was acknowledged to anybody before this call.
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        panic!("not yet")
    }

    /// What this node knows about itself and who leads.
    pub fn status(&self) -> watch::Receiver<ReplicaStatus> {
        self.status.clone()
    }

    /// Asks the node at an address who it is.
    pub async fn hello(&self, _address: &str) -> Result<Hello, HelloError> {
        panic!("not yet")
    }

    /// The service that other nodes call. Votes and appends are refused until `gate` is open.
    pub fn peer_service(&self, _gate: Gate) -> ReplicaServiceServer<PeerService<M>> {
        panic!("not yet")
    }

    /// Stops replication. What is in flight ends as unknown.
    pub async fn shutdown(&self) {
        panic!("not yet")
    }
}
