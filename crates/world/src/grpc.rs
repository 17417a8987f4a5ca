//! gRPC over a world's sockets: long-lived channels on the client side, accepted connections on the server side.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::layer::util::{Identity, Stack};

pub use crate::date::DateLayer;
use crate::{Listener, Socket, World};

/// HTTP/2 pings on idle connections reap peers that vanished without a FIN. They detect nothing else: Raft's timers and
/// session deadlines are faster.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_millis(500);

/// Flow-control window of a connection and of each of its streams: a whole request of the largest size fits.
const WINDOW: u32 = 4 << 20;

/// Flow-control window of a stream that may stand unread for long.
const UNREAD_WINDOW: u32 = 256 << 10;

/// Flow-control window of a connection of such streams: the largest that there is. Thousands of them stand unread before they
/// hold up those that are read.
const UNREAD_CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// The text is not an address that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAddress {
    /// What was given.
    pub value: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl std::fmt::Display for BadAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "address: '{}': {} (expected HOST:PORT)", self.value, self.why)
    }
}

impl std::error::Error for BadAddress {}

/// Checks the form `HOST:PORT` without touching the network.
pub fn check_address(value: &str) -> Result<(), BadAddress> {
    let wrong = |why| Err(BadAddress { value: value.to_owned(), why });
    let Some((host, port)) = value.rsplit_once(':') else { return wrong("there is no port") };
    if host.is_empty() {
        return wrong("the host is empty");
    }
    if port.parse::<u16>().is_err() {
        return wrong("the port is not a number from 0 to 65535");
    }
    if value.parse::<http_uri::Authority>().is_err() {
        return wrong("the host has characters that a host name cannot have");
    }
    Ok(())
}

mod http_uri {
    pub(super) use tonic::codegen::http::uri::Authority;
}

/// A channel to `HOST:PORT` that connects when first used, reconnects by itself, and is kept for the life of the process.
/// Every call on it needs a deadline of its own.
pub fn channel(world: &World, address: &str) -> Result<Channel, BadAddress> {
    channel_with(world, address, WINDOW, WINDOW)
}

/// The same, for streams whose readers may stop reading: what stands unread of one holds up no other.
pub fn channel_of_streams(world: &World, address: &str) -> Result<Channel, BadAddress> {
    channel_with(world, address, UNREAD_CONNECTION_WINDOW, UNREAD_WINDOW)
}

fn channel_with(world: &World, address: &str, connection: u32, stream: u32) -> Result<Channel, BadAddress> {
    check_address(address)?;
    let uri = format!("http://{address}");
    let endpoint = Endpoint::from_shared(uri)
        .map_err(|_| BadAddress { value: address.to_owned(), why: "it does not form a URI" })?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE * 2)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(connection)
        .initial_stream_window_size(stream);
    Ok(endpoint.connect_with_connector_lazy(Connector { world: world.clone() }))
}

/// Dials through the world's network; bounded by its own timer so that a black-holed address cannot hang a channel.
#[derive(Clone)]
struct Connector {
    world: World,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Socket>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Socket>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let world = self.world.clone();
        Box::pin(async move {
            let authority =
                uri.authority().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.as_str().to_owned();
            match world.timeout(CONNECT, world.connect(&authority)).await {
                Some(connected) => connected.map(TokioIo::new),
                None => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection to {authority} within {CONNECT:?}"),
                )),
            }
        })
    }
}

/// The connections of a listener, as tonic's `serve_with_incoming` wants them. Errors of a single accept are logged and
/// skipped: one bad connection must not end the server.
pub fn incoming(listener: Listener) -> impl Stream<Item = io::Result<Socket>> + Send {
    futures_util::stream::unfold(listener, |mut listener| async move {
        loop {
            match listener.accept().await {
                Ok(socket) => return Some((Ok(socket), listener)),
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    // Out of descriptors: give the holders a moment instead of spinning.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    })
}

/// A server before it has services.
pub type Server = tonic::transport::Server<Stack<DateLayer, Identity>>;

/// A server with its services.
pub type Router = tonic::transport::server::Router<Stack<DateLayer, Identity>>;

/// A tonic server with the settings that every server of ours has.
pub fn server(world: &World) -> Server {
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE * 2))
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .layer(DateLayer(world.clone()))
}
