//! The entry point: endpoints in, requests and sessions out. Cheap to clone; nothing is dialled before it is needed.

use std::sync::Arc;
use std::time::Duration;

use palisade_wire::coord::v1::{HealthReply, StatusReply};
use palisade_world::World;

use crate::{ElectionFollower, Error, Observer, Session, SessionOptions};

/// How to reach a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientConfig {
    /// `HOST:PORT` of some nodes; the others are learnt from their hints.
    pub endpoints: Vec<String>,
    /// The longest a single request may take, its repetitions included. A campaign that waits is not a request.
    pub request_timeout: Duration,
}

/// The configuration cannot work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is nobody to ask.
    #[error("endpoints: there is none (expected HOST:PORT, at least once)")]
    NoEndpoints,
    /// One cannot be dialled.
    #[error("endpoints: {0}")]
    BadAddress(palisade_world::grpc::BadAddress),
    /// Nothing can be done in no time.
    #[error("request_timeout: '0' is not allowed: more than 0")]
    NoTime,
}

/// A client of one cluster. All clones share their connections and their one session stream.
#[derive(Clone, Debug)]
pub struct Client {
    #[allow(dead_code)]
    world: Arc<World>,
}

impl Client {
    /// Checks the configuration; dials nothing.
    pub fn new(config: ClientConfig, world: World) -> Result<Client, ConfigError> {
        let _ = config;
        Ok(Client { world: Arc::new(world) })
    }

    /// The world that it lives in, whose clock its deadlines are on.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Opens a session. All sessions of a client share one stream.
    pub async fn open_session(&self, options: SessionOptions) -> Result<Session, Error> {
        let _ = options;
        panic!("not yet")
    }

    /// Observes an election: the present state, then every change. Reconnects by itself.
    pub fn observe(&self, election: &str) -> Observer {
        let _ = election;
        panic!("not yet")
    }

    /// Follows an election in the background, for receivers that check tokens.
    pub fn follow(&self, election: &str) -> ElectionFollower {
        let _ = election;
        panic!("not yet")
    }

    /// What one node says about itself and the cluster. Asked once, at that node only.
    pub async fn status_of(&self, endpoint: &str) -> Result<StatusReply, Error> {
        let _ = endpoint;
        panic!("not yet")
    }

    /// Whether one node can serve. Asked once, at that node only.
    pub async fn health_of(&self, endpoint: &str) -> Result<HealthReply, Error> {
        let _ = endpoint;
        panic!("not yet")
    }
}
