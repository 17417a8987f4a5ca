//! One per process: starts endpoints, connects gateways by address, owns the transport, closes in order.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use palisade_fence::LeaderSource;
use palisade_world::{Net, World};

use crate::fencing::Fencing;
use crate::gateway::RawGateway;
use crate::registry::{Registry, Standby};
use crate::transport::{Links, Server};
use crate::{
    ConnectError, Counters, EndpointBuilder, EndpointFailure, InterfaceInfo, Life, RpcAddress, RpcEndpoint, RpcGateway,
    Stamp,
};

/// Largest message; as in Flink. A checkpoint's state travels by its own way.
const MAX_MESSAGE: usize = 10 << 20;

/// How long an endpoint's `on_stop` may take when its service is closed, before it is ended by force.
const STOP: Duration = Duration::from_secs(5);

/// Settings of a service.
#[derive(Clone)]
pub struct RpcServiceConfig {
    listen: Option<String>,
    advertise: Option<String>,
    max_message: usize,
    interfaces: Vec<&'static InterfaceInfo>,
    serialize: Serialize,
    stop: Duration,
    net: Option<Arc<dyn Net>>,
}

/// Whether messages within the process are serialized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Serialize {
    BetweenProcesses,
    Always,
}

impl std::fmt::Debug for RpcServiceConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RpcServiceConfig { listen, advertise, max_message, serialize, .. } = self;
        write!(f, "RpcServiceConfig {{ {listen:?}, {advertise:?}, {max_message}, {serialize:?} }}")
    }
}

impl RpcServiceConfig {
    /// Listens on `host:port`; port 0 takes a free one.
    pub fn listen(address: impl Into<String>) -> RpcServiceConfig {
        RpcServiceConfig { listen: Some(address.into()), ..RpcServiceConfig::local() }
    }

    /// Does not listen: only this process reaches its endpoints, but gateways can be connected to others.
    pub fn local() -> RpcServiceConfig {
        RpcServiceConfig {
            listen: None,
            advertise: None,
            max_message: MAX_MESSAGE,
            interfaces: Vec::new(),
            serialize: Serialize::BetweenProcesses,
            stop: STOP,
            net: None,
        }
    }

    /// The `host:port` that others reach this process at, if it is not the one it listens on.
    pub fn advertise(mut self, address: impl Into<String>) -> RpcServiceConfig {
        self.advertise = Some(address.into());
        self
    }

    /// Largest request and answer in bytes, both ways (default 10 MiB).
    pub fn max_message(mut self, bytes: usize) -> RpcServiceConfig {
        self.max_message = bytes;
        self
    }

    /// Serializes messages within the process too, with the same limits as between processes: for tests that shall find what
    /// would break there. By default the caller's message itself is handed over.
    pub fn serialize_always(mut self) -> RpcServiceConfig {
        self.serialize = Serialize::Always;
        self
    }

    /// How long all endpoints together may take to stop when the service is closed, before they are ended by force (default
    /// 5 s).
    pub fn stop_within(mut self, limit: Duration) -> RpcServiceConfig {
        self.stop = limit;
        self
    }

    /// Connects and listens through `net` instead of the world's network. This is where encryption goes: a network that wraps
    /// each socket of another one, on both sides.
    pub fn net(mut self, net: Arc<dyn Net>) -> RpcServiceConfig {
        self.net = Some(net);
        self
    }

    /// Names a gateway for server reflection and health.
    pub fn interface<G: RpcGateway>(mut self) -> RpcServiceConfig {
        self.interfaces.push(G::INTERFACE);
        self
    }
}

/// Why a service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("listen on {address}: {error}")]
    Listen {
        /// What was given.
        address: String,
        /// The operating system's words.
        error: io::Error,
    },
    /// An interface's descriptors cannot be read.
    #[error("descriptors of an interface: {0}")]
    Descriptors(String),
}

/// Endpoints that did not end cleanly when the service was closed. All are gone nevertheless, and so is the transport.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} endpoint(s) did not end cleanly: {}", .failures.len(), text(.failures))]
pub struct CloseError {
    /// Id and failure of each.
    pub failures: Vec<(String, EndpointFailure)>,
}

fn text(failures: &[(String, EndpointFailure)]) -> String {
    failures.iter().map(|(id, failure)| format!("{id}: {failure}")).collect::<Vec<_>>().join("; ")
}

/// The RPC service of a process; cheap to clone. Dropping the last clone ends all endpoints at once; [`RpcService::close`]
/// does it in order.
#[derive(Clone)]
pub struct RpcService(Arc<Inner>);

struct Inner {
    registry: Arc<Registry>,
    links: Links,
    server: Mutex<Option<Server>>,
    local: Option<SocketAddr>,
    stop: Duration,
    end: tokio::sync::OnceCell<Result<(), CloseError>>,
}

impl RpcService {
    /// Starts listening, if it is to.
    ///
    /// Boxed, so that the transport below it is compiled once, with this crate, and not again in every program that has one.
    pub fn start(config: RpcServiceConfig, world: World) -> BoxFuture<'static, Result<RpcService, StartError>> {
        Box::pin(RpcService::begin(config, world))
    }

    async fn begin(config: RpcServiceConfig, world: World) -> Result<RpcService, StartError> {
        let world = match config.net {
            Some(net) => world.with_net(net),
            None => world,
        };
        let listener = match &config.listen {
            None => None,
            Some(address) => Some(
                world.bind(address).await.map_err(|error| StartError::Listen { address: address.clone(), error })?,
            ),
        };
        let local = listener.as_ref().map(|listener| listener.local_addr());
        let node = config.advertise.or_else(|| local.map(|local| local.to_string())).unwrap_or_default();
        let serialize = (config.serialize == Serialize::Always).then_some(config.max_message);
        let registry = Arc::new(Registry::new(node, world.clone(), serialize));
        let server = match listener {
            None => None,
            Some(listener) => {
                Some(Server::start(listener, registry.clone(), &config.interfaces, config.max_message).await?)
            }
        };
        let links = Links::new(world, config.max_message);
        Ok(RpcService(Arc::new(Inner {
            registry,
            links,
            server: Mutex::new(server),
            local,
            stop: config.stop,
            end: tokio::sync::OnceCell::new(),
        })))
    }

    /// `host:port` that others reach this process at; empty if it does not listen.
    pub fn node(&self) -> &str {
        self.0.registry.node()
    }

    /// The socket it listens on.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local
    }

    /// Begins an endpoint. Ids may be used again once the earlier endpoint has terminated.
    pub fn endpoint<E: RpcEndpoint>(&self, id: impl Into<String>, state: E) -> EndpointBuilder<E> {
        EndpointBuilder {
            registry: self.0.registry.clone(),
            id: id.into(),
            state,
            served: Vec::new(),
            fencing: Fencing::Open,
            mailbox: crate::endpoint::DEFAULT_MAILBOX,
        }
    }

    /// Says that this process hosts a leader's endpoint of that id, but only while it leads: at other times its callers are
    /// answered `NotLeader`, with the leader as `source` knows it.
    pub fn declare<G: RpcGateway>(&self, id: &str, source: Option<Arc<dyn LeaderSource>>) {
        self.0.registry.declare(id, Standby { interface: G::INTERFACE, source });
    }

    /// Connects a gateway: reaches the process, and asks whether the endpoint is there and serves the interface. Not a matter
    /// of tokens: a stale one fails at the first call; except that a gateway is never connected with a lower token than this
    /// process has seen. The gateway reconnects by itself.
    pub async fn connect<G: RpcGateway>(&self, address: &RpcAddress, stamp: Stamp) -> Result<G, ConnectError> {
        let registry = &self.0.registry;
        if registry.is_closed() {
            return Err(ConnectError::Closed);
        }
        if let Stamp::Fixed { cluster, election, token } = &stamp {
            let seen = registry.seen(*cluster, election).load(Ordering::Acquire);
            if let Some(seen) = palisade_fence::Token::from_wire(seen).filter(|seen| seen > token) {
                return Err(ConnectError::Stale { election: election.clone(), token: *token, seen });
            }
        }
        let (link, window) = if address.node() == registry.node() {
            (None, registry.handshake(address.endpoint(), G::INTERFACE.name)?)
        } else {
            let link = self.0.links.to(address.node())?;
            let welcome = link.handshake(address, G::INTERFACE.name).await?;
            (Some(link), welcome.window)
        };
        Ok(G::from_raw(RawGateway::new(address.clone(), G::INTERFACE, stamp, registry.clone(), link, window)))
    }

    /// How the endpoints of this process answered.
    pub fn counters(&self) -> Counters {
        self.0.registry.counters.clone()
    }

    /// Stops all endpoints and waits for their ends, for as long as [`RpcServiceConfig::stop_within`] says; then closes the
    /// transport, also if an endpoint failed. A second call waits for the same end.
    pub async fn close(&self) -> Result<(), CloseError> {
        self.0.end.get_or_init(|| self.close_once()).await.clone()
    }

    async fn close_once(&self) -> Result<(), CloseError> {
        let registry = &self.0.registry;
        let endpoints = registry.close();
        for endpoint in &endpoints {
            endpoint.want(Life::Terminated);
        }
        let mut failures = Vec::new();
        let until = registry.world.now() + self.0.stop;
        for endpoint in endpoints {
            let mut life = endpoint.life.subscribe();
            let left = until.saturating_sub(registry.world.now());
            let ended = registry.world.timeout(left, life.wait_for(|life| *life == Life::Terminated)).await;
            let end = match ended {
                Some(_) => endpoint.end.get().cloned().unwrap_or(Err(EndpointFailure::Dropped)),
                None => Err(EndpointFailure::Stop(crate::RpcError::TimedOut { limit: self.0.stop })),
            };
            if let Err(failure) = end {
                failures.push((endpoint.id.to_string(), failure));
            }
        }
        registry.end_tasks();
        self.0.links.close();
        let server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.close().await;
        }
        if failures.is_empty() { Ok(()) } else { Err(CloseError { failures }) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Handles and gateways may still hold the registry; its endpoints end with the service all the same.
        self.registry.close();
        self.registry.end_tasks();
    }
}
