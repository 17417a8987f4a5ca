//! Sessions over gRPC: one stream per process carries its sessions' keep-alives, campaigns and grants.
//!
//! Who lives and what expires is decided by the crate `liveness`, what a command does by `coord-core`; here their
//! decisions are carried out.

mod backend;

use std::ops::RangeInclusive;
use std::time::Duration;

pub(crate) use backend::{SessionBackend, StoreView};

/// What the sessions of a node are told at its start.
#[derive(Clone, Debug)]
pub(crate) struct SessionSettings {
    /// TTLs that clients may ask for.
    pub(crate) ttl: RangeInclusive<Duration>,
    /// Without a quorum's confirmation for this long the node closes its session streams: Raft's longest election timeout.
    pub(crate) election_timeout: Duration,
}
