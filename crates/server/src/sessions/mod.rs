//! Sessions over gRPC: one stream per process carries its sessions' keep-alives, campaigns and grants.
//!
//! Who lives and what expires is decided by the crate `liveness`, what a command does by `coord-core`; here their decisions
//! are carried out. Nothing here is replicated, and nothing of a stream outlives it.
//!
//! Reading order: [`SessionBackend`] (what is needed of the node), `service` (a stream begins, or a call comes), `relay` (it is
//! another node's to serve), `reader` (its frames are read and checked), `driver` (the one task that owns everything else) with
//! the parts that it calls: `leading` (one leadership), `commands` (what clients ask in it), `slots` (the order of what one
//! session is told), `streams`, `outbox` (what a client has yet to read). `unary` is for everybody who is not the client of a
//! session.
//!
//! Keeps true: what one session is told on its stream is in the order of `seq`; a keep-alive waits for nothing but its
//! quorum round; a stream that this node closes for its own reasons is nobody's disconnect.

mod backend;
mod commands;
mod driver;
mod frames;
mod leading;
mod outbox;
mod reader;
mod relay;
mod service;
mod slots;
mod streams;
#[cfg(test)]
pub(crate) mod tests;
mod unary;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use palisade_wire::coord::v1::ErrorDetail;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::session_service_server::SessionServiceServer;
use palisade_wire::status::not_applied;
use palisade_world::{Task, World};
use tokio::sync::{mpsc, watch};

use crate::forward::Forwarder;
use crate::metrics::NodeMetrics;

pub(crate) use backend::{SessionBackend, StoreView};
pub(crate) use service::SessionStreams;
pub(crate) use streams::MAX_STREAMS;

/// What gRPC accepts as one frame. The largest that is allowed is a campaign, whose value has 64 KiB at most: one that is
/// somewhat too large gets our answer, which names the limit; beyond this the stream is closed.
const FRAME_BYTES: usize = 256 << 10;

/// Frames of all streams that wait for the driver. When it is full, streams are not read from, and TCP slows clients down.
pub(crate) const INPUTS: usize = 4_096;

/// What the sessions of a node are told at its start.
#[derive(Clone, Debug)]
pub(crate) struct SessionSettings {
    /// TTLs that clients may ask for.
    pub(crate) ttl: RangeInclusive<Duration>,
    /// Without a quorum's confirmation for this long the node closes its session streams: Raft's longest election timeout.
    pub(crate) election_timeout: Duration,
    /// Where it counts.
    pub(crate) metrics: Arc<NodeMetrics>,
}

impl SessionSettings {
    fn ttl_ms(&self) -> RangeInclusive<u64> {
        let ms = |span: &Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        ms(self.ttl.start())..=ms(self.ttl.end())
    }
}

/// Whether streams may begin at this node.
#[derive(Clone, PartialEq, Debug)]
enum Entrance {
    Open,
    /// No, and why not.
    Shut(ErrorDetail),
}

/// Starts the sessions of a node: the service to add to its server, and the driver, which ends with its handle.
pub(crate) fn start<B: SessionBackend>(
    backend: Arc<B>,
    settings: SessionSettings,
    forwarder: Forwarder,
    world: &World,
) -> (SessionServiceServer<SessionStreams<B>>, Task<()>) {
    let (inputs, waiting) = mpsc::channel(INPUTS);
    let shut = Entrance::Shut(not_applied(Kind::NoStoreLeader, "the node has just started"));
    let (entrance, entrance_watch) = watch::channel(shut);
    let streams = SessionStreams::new(Arc::clone(&backend), inputs, entrance_watch, &settings, forwarder);
    let driver = driver::Driver::new(backend, settings, waiting, entrance, world.clone());
    let service = SessionServiceServer::new(streams).max_decoding_message_size(FRAME_BYTES);
    (service, world.spawn("session driver", driver.run()))
}
