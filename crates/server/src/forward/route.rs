//! Where a call is answered: here, or by the store leader. It looks at nothing but what it is given.

use http::HeaderMap;
use palisade_replica::ReplicaStatus;
use palisade_wire::coord::v1::StoreLeader;
use palisade_wire::metadata;

use crate::refusals;

/// What the metadata of a call says about forwarding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// Nothing: it may be forwarded.
    Freely,
    /// The caller follows hints by itself.
    NotToForward,
    /// Another node asks: that was the one hop.
    ByAnotherNode,
}

/// Where a call is answered.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Route {
    /// By this node; if it does not lead the store, with a refusal that says who does.
    Here,
    /// By this one.
    There(StoreLeader),
}

/// Reads the metadata.
pub(crate) fn asked(metadata: &HeaderMap) -> Asked {
    if metadata.contains_key(metadata::FORWARDED) || metadata.contains_key(metadata::RELAY) {
        Asked::ByAnotherNode
    } else if metadata.get(metadata::FORWARD).is_some_and(|value| value == metadata::NO) {
        Asked::NotToForward
    } else {
        Asked::Freely
    }
}

/// Decides.
pub(super) fn route(node_id: u64, status: &ReplicaStatus, asked: Asked) -> Route {
    match (asked, &status.store_leader) {
        (Asked::NotToForward | Asked::ByAnotherNode, _) | (Asked::Freely, None) => Route::Here,
        // A node that leads and is not ready yet is no one to ask, not even by itself.
        (Asked::Freely, Some(_)) if status.leadership.is_some() => Route::Here,
        (Asked::Freely, Some(peer)) if peer.node_id == node_id => Route::Here,
        (Asked::Freely, Some(peer)) => Route::There(refusals::store_leader(peer)),
    }
}

#[cfg(test)]
mod tests {
    use palisade_replica::{Leadership, Peer, Role};

    use super::*;

    fn follower_of(node_id: u64) -> ReplicaStatus {
        let peer = Peer { node_id, address: format!("node-{node_id}:7070"), store_id: 1 };
        ReplicaStatus {
            role: Role::Follower,
            leadership: None,
            store_leader: Some(peer),
            term: 3,
            applied: 9,
            committed: 9,
            members: Vec::new(),
            ids: palisade_replica::MemberIds::default(),
            fatal: None,
        }
    }

    fn header(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))])
    }

    #[test]
    fn a_follower_asks_the_store_leader_it_knows() {
        let there = StoreLeader { node_id: 2, address: "node-2:7070".to_owned() };
        assert_eq!(route(1, &follower_of(2), Asked::Freely), Route::There(there));
        assert_eq!(route(1, &ReplicaStatus { store_leader: None, ..follower_of(2) }, Asked::Freely), Route::Here);
    }

    #[test]
    fn the_store_leader_asks_nobody() {
        assert_eq!(route(2, &follower_of(2), Asked::Freely), Route::Here, "not ready yet");
        let leadership = Some(Leadership { term: 3, node: 1 });
        assert_eq!(route(1, &ReplicaStatus { leadership, ..follower_of(2) }, Asked::Freely), Route::Here);
    }

    #[test]
    fn a_call_goes_over_one_hop_and_over_none_if_it_says_so() {
        for headers in
            [header(metadata::FORWARDED, "3"), header(metadata::RELAY, "3"), header(metadata::FORWARD, metadata::NO)]
        {
            assert_eq!(route(1, &follower_of(2), asked(&headers)), Route::Here, "{headers:?}");
        }
        assert_eq!(asked(&HeaderMap::new()), Asked::Freely);
        assert_eq!(asked(&header(metadata::FORWARD, "yes")), Asked::Freely);
    }
}
