//! Connections to other nodes: one for each peer and purpose, kept as long as the peer keeps its address. They connect
//! when they are first used and again by themselves. Nothing is decided here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use palisade_wire::replica::v1::replica_service_client::ReplicaServiceClient;
use palisade_world::World;
use palisade_world::grpc::{self, BadAddress};
use tonic::transport::Channel;

use crate::Peer;
use crate::replica::MAX_MESSAGE_BYTES;

/// Connections for `Hello` to nodes that are not (yet) members. A node asks those that its configuration names, at most
/// nine; beyond this many the oldest are let go.
const STRANGERS: usize = 32;

pub(crate) type Client = ReplicaServiceClient<Channel>;

/// The connections to one peer. Bulk traffic has connections of its own, so that it cannot delay heartbeats and votes.
#[derive(Clone)]
pub(crate) struct Links {
    pub(crate) replication: Client,
    /// Heartbeats, votes, transfer of leadership.
    pub(crate) control: Client,
    pub(crate) snapshot: Client,
}

/// All connections of this node.
#[derive(Clone)]
pub(crate) struct LinkTable {
    world: World,
    peers: Arc<Mutex<BTreeMap<(u64, String), Links>>>,
    strangers: Arc<Mutex<BTreeMap<String, Client>>>,
}

impl LinkTable {
    pub(crate) fn new(world: World) -> LinkTable {
        LinkTable { world, peers: Arc::default(), strangers: Arc::default() }
    }

    /// To a member.
    pub(crate) fn to(&self, peer: &Peer) -> Result<Links, BadAddress> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (peer.node_id, peer.address.clone());
        if let Some(links) = peers.get(&key) {
            return Ok(links.clone());
        }
        let links = Links {
            replication: self.connect(&peer.address)?,
            control: self.connect(&peer.address)?,
            snapshot: self.connect(&peer.address)?,
        };
        // What belongs to an address that the peer has left is of no use.
        peers.retain(|(node_id, _), _| *node_id != peer.node_id);
        peers.insert(key, links.clone());
        Ok(links)
    }

    /// To whoever answers at an address.
    pub(crate) fn stranger(&self, address: &str) -> Result<Client, BadAddress> {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = strangers.get(address) {
            return Ok(client.clone());
        }
        let client = self.connect(address)?;
        if strangers.len() >= STRANGERS {
            strangers.pop_first();
        }
        strangers.insert(address.to_owned(), client.clone());
        Ok(client)
    }

    fn connect(&self, address: &str) -> Result<Client, BadAddress> {
        let channel = grpc::channel(&self.world, address)?;
        Ok(Client::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }
}
