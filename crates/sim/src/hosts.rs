//! What runs on the simulated hosts: nodes with simulated disks, candidates, a writer, an observer.

pub mod candidate;
pub mod node;
pub mod observer;
pub mod writer;

use std::time::Duration;

use palisade_client::{Client, ClientConfig};
use palisade_world::World;

use crate::plan::NODES;

/// The port that every node listens on.
pub const PORT: u16 = 7070;

/// Name of a node's host.
pub fn node_name(node: usize) -> String {
    format!("node-{node}")
}

/// Name of a candidate's host.
pub fn candidate_name(candidate: usize) -> String {
    format!("candidate-{candidate}")
}

/// `HOST:PORT` of every node.
pub fn addresses() -> Vec<String> {
    (1..=NODES).map(|node| format!("{}:{PORT}", node_name(node))).collect()
}

/// A client of the simulated cluster.
pub(crate) fn client(world: &World) -> Client {
    let config = ClientConfig { endpoints: addresses(), request_timeout: Duration::from_secs(2) };
    Client::new(config, world.clone()).expect("the simulated addresses are well formed")
}
