//! Any node serves any client: what only the store leader can answer is asked of it, once, over connections that stay.
//!
//! Nothing here knows what a call means, and nothing is ever sent a second time. Session streams are relayed frame by frame
//! (`sessions::relay`), because their end has a meaning of its own; they share the connections and the rule of one hop.
//!
//! Reading order: `route` (here or there: pure), `links` (the connections), `methods` (what is known of single calls),
//! `service` (a service that forwards), `passed` (an answer on its way back).
//!
//! Keeps true: a call goes over one hop at most; "not applied" is said only if it never left this node, or if the store leader
//! said so; what breaks after sending is unknown, and ends with a typed status.

mod links;
mod methods;
mod passed;
mod route;
mod service;
#[cfg(test)]
mod tests;

use palisade_replica::ReplicaStatus;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, StoreLeader};
use palisade_wire::status::{not_applied, unknown};
use palisade_world::World;
use tokio::sync::watch;

use crate::connections::Line;
use links::Links;
pub(crate) use links::{NoSeat, Purpose, Seat};
pub(crate) use route::{Asked, Route, asked};
pub(crate) use service::{Forwarding, no_seat};

/// The way from this node to the store leader. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Forwarder {
    pub(crate) node_id: u64,
    status: watch::Receiver<ReplicaStatus>,
    /// Of the connections that this node has accepted.
    line: watch::Receiver<Line>,
    links: Links,
    pub(crate) world: World,
}

impl Forwarder {
    pub(crate) fn new(
        node_id: u64,
        status: watch::Receiver<ReplicaStatus>,
        line: watch::Receiver<Line>,
        world: &World,
    ) -> Forwarder {
        Forwarder { node_id, status, line, links: Links::new(world.clone()), world: world.clone() }
    }

    /// Whether this node cuts its connections: then it is not their clients who went.
    pub(crate) fn is_stopping(&self) -> bool {
        self.line.has_changed().is_err() || *self.line.borrow() == Line::Cut
    }

    /// Where a call is answered, as things stand.
    pub(crate) fn route(&self, asked: Asked) -> Route {
        route::route(self.node_id, &self.status.borrow(), asked)
    }

    /// A connection to the store leader with room for one more call.
    pub(crate) fn seat(&self, leader: &StoreLeader, purpose: Purpose) -> Result<Seat, NoSeat> {
        self.links.seat(&leader.address, purpose)
    }

    /// Waits until another node than this one is known to lead the store. Cancelling it is harmless.
    pub(crate) async fn replaced(&self, leader: &StoreLeader) -> StoreLeader {
        let mut status = self.status.clone();
        let other = |now: &ReplicaStatus| now.store_leader.as_ref().is_some_and(|peer| peer.node_id != leader.node_id);
        match status.wait_for(other).await.map(|now| now.store_leader.as_ref().map(crate::refusals::store_leader)) {
            Ok(Some(other)) => other,
            Ok(None) | Err(_) => std::future::pending().await, // the node stops, and with it whoever waits here
        }
    }
}

/// Nothing was sent: there is no connection to the store leader.
pub(crate) fn unreachable(leader: &StoreLeader) -> ErrorDetail {
    ErrorDetail {
        store_leader: Some(leader.clone()),
        ..not_applied(
            Kind::NoStoreLeader,
            "this node has no connection to the store leader: repeat it later, at any node",
        )
    }
}

/// It was sent, and no answer came.
pub(crate) fn broken(leader: &StoreLeader) -> ErrorDetail {
    ErrorDetail {
        store_leader: Some(leader.clone()),
        ..unknown(Kind::LostLeadership, "the connection to the store leader broke before its answer came")
    }
}
