//! The entry point: endpoints in, requests and sessions out. Cheap to clone; nothing is dialled before it is needed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use palisade_wire::coord::v1::cluster_service_client::ClusterServiceClient;
use palisade_wire::coord::v1::{HealthReply, HealthRequest, StatusReply, StatusRequest};
use palisade_wire::status;
use palisade_world::World;
use palisade_world::grpc::check_address;
use tokio::sync::{mpsc, oneshot};
use tonic::{Response, Status};

use crate::links::{Channel, Links, Purpose};
use crate::requests::Shared;
use crate::seen::Seen;
use crate::session::whole_ms;
use crate::session_core::ToOpen;
use crate::session_driver::{Ask, SessionDriver};
use crate::stream_links::StreamLinks;
use crate::way_back::WaysBack;
use crate::{ElectionFollower, Error, ErrorKind, ObserveFrom, Observer, OnDisconnect, Session, SessionOptions};

/// How to reach a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientConfig {
    /// `HOST:PORT` of some nodes; the others, and those that take their place one day, are learnt from them.
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
    pub(crate) shared: Arc<Shared>,
    driver: Arc<Mutex<Option<mpsc::UnboundedSender<Ask>>>>,
}

impl Client {
    /// Checks the configuration; dials nothing.
    pub fn new(config: ClientConfig, world: World) -> Result<Client, ConfigError> {
        for address in &config.endpoints {
            check_address(address).map_err(ConfigError::BadAddress)?;
        }
        let mut seen = BTreeSet::new();
        let endpoints: Vec<String> = config.endpoints.into_iter().filter(|it| seen.insert(it.clone())).collect();
        if endpoints.is_empty() {
            return Err(ConfigError::NoEndpoints);
        }
        if config.request_timeout.is_zero() {
            return Err(ConfigError::NoTime);
        }
        let links = Links::new(world.clone(), endpoints);
        let (stream_links, ways_back, seen) = (StreamLinks::default(), WaysBack::default(), Seen::default());
        let request_timeout = config.request_timeout;
        let members = OnceLock::new();
        let shared = Shared { world, links, stream_links, ways_back, seen, request_timeout, members };
        Ok(Client { shared: Arc::new(shared), driver: Arc::default() })
    }

    /// The world that it lives in, whose clock its deadlines are on.
    pub fn world(&self) -> &World {
        &self.shared.world
    }

    /// Opens a session, within the request timeout. All sessions of a client share one stream.
    pub async fn open_session(&self, options: SessionOptions) -> Result<Session, Error> {
        if options.given_id == Some(0) {
            return Err(Error::invalid("given_id", 0, "1 to 2^63 - 1"));
        }
        whole_ms("ttl", options.ttl)?;
        if let OnDisconnect::ReleaseAfter(after) = options.on_disconnect {
            whole_ms("on_disconnect", after)?;
        }
        let (reply, answer) = oneshot::channel();
        let give_up_at = self.shared.world.now() + self.shared.request_timeout;
        let driver = self.driver();
        let SessionOptions { given_id: given, ttl, on_disconnect } = options;
        // A driver that is gone drops the reply.
        let _ = driver.send(Ask::Open { what: ToOpen { ttl, on_disconnect, given }, give_up_at, reply });
        let opened = answer.await.map_err(|_| closed())??;
        Ok(Session::new(opened, Arc::clone(&self.shared), driver))
    }

    /// Observes an election: the present state, then every change. Reconnects by itself.
    pub fn observe(&self, election: &str) -> Observer {
        Observer::new(Arc::clone(&self.shared), election, None)
    }

    /// Observes an election from an earlier moment on: what followed it, in order, or a gap and the present state.
    pub fn observe_from(&self, election: &str, from: ObserveFrom) -> Observer {
        Observer::new(Arc::clone(&self.shared), election, Some(from))
    }

    /// Follows an election in the background, for receivers that check tokens. Call it within a runtime.
    pub fn follow(&self, election: &str) -> ElectionFollower {
        ElectionFollower::start(self, election)
    }

    /// What one node says about itself and the cluster. Asked once, at that node only.
    pub async fn status_of(&self, endpoint: &str) -> Result<StatusReply, Error> {
        self.once(endpoint, |channel| async { ClusterServiceClient::new(channel).status(StatusRequest {}).await }).await
    }

    /// Whether one node can serve. Asked once, at that node only.
    pub async fn health_of(&self, endpoint: &str) -> Result<HealthReply, Error> {
        self.once(endpoint, |channel| async { ClusterServiceClient::new(channel).health(HealthRequest {}).await }).await
    }

    async fn once<T, Fut>(&self, endpoint: &str, send: impl FnOnce(Channel) -> Fut) -> Result<T, Error>
    where
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let bad = |error: palisade_world::grpc::BadAddress| Error::invalid("endpoint", &error.value, error.why);
        let channel = self.shared.links.channel(Purpose::Requests, endpoint).map_err(bad)?;
        let limit = self.shared.request_timeout;
        match self.shared.world.timeout(limit, send(channel)).await {
            Some(Ok(reply)) => Ok(reply.into_inner()),
            Some(Err(refused)) => Err(match status::detail(&refused) {
                Some(detail) => Error::refused(&detail).of_a_read(),
                None => {
                    let message = format!("{endpoint}: no answer: {}", refused.message());
                    Error::not_applied(ErrorKind::ConnectionLost, message)
                }
            }),
            None => {
                self.shared.links.forget(Purpose::Requests, endpoint);
                let message = format!("{endpoint}: no answer within {limit:?}");
                Err(Error::not_applied(ErrorKind::TimedOut, message))
            }
        }
    }

    /// The task that carries the sessions; started with the first of them.
    fn driver(&self) -> mpsc::UnboundedSender<Ask> {
        self.shared.keep_members();
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        match &*driver {
            Some(running) if !running.is_closed() => running.clone(),
            Some(_) | None => driver.insert(SessionDriver::start(Arc::clone(&self.shared))).clone(),
        }
    }
}

pub(crate) fn closed() -> Error {
    Error::unknown(ErrorKind::ClientClosed, "the client was shut down")
}
