//! Sessions over gRPC: one stream per process carries its sessions' keep-alives, campaigns and grants.
//!
//! Who lives and what expires is decided by the crate `liveness`, what a command does by `coord-core`; here their
//! decisions are carried out.

mod backend;
mod service;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use palisade_wire::coord::v1::session_service_server::SessionServiceServer;
use palisade_world::{Task, World};

pub(crate) use backend::{SessionBackend, StoreView};
pub(crate) use service::SessionStreams;

/// What the sessions of a node are told at its start.
#[derive(Clone, Debug)]
pub(crate) struct SessionSettings {
    /// TTLs that clients may ask for.
    pub(crate) ttl: RangeInclusive<Duration>,
    /// Without a quorum's confirmation for this long the node closes its session streams: Raft's longest election timeout.
    pub(crate) election_timeout: Duration,
}

/// Starts the sessions of a node: the service to add to its server, and the driver, which ends with its handle.
pub(crate) fn start<B: SessionBackend>(
    backend: Arc<B>,
    settings: SessionSettings,
    world: &World,
) -> (SessionServiceServer<SessionStreams>, Task<()>) {
    let _ = (backend, settings, world);
    panic!("not yet")
}
