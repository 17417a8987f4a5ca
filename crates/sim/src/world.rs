//! The simulated seam: turmoil's sockets, the simulation's clock, randomness from the seed. Every byte that is written to a
//! socket goes into the [`Traffic`] of the run, so that two runs are compared by all that they said, not by what we looked at.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use palisade_world::{AcceptSocket, Clock, Listener, Net, SeededRandom, Socket, World};

/// A world for one host. `seed` should differ between hosts and between restarts of a host.
pub fn simulated(seed: u64, traffic: &Traffic) -> World {
    World::new(
        Arc::new(SimClock),
        Arc::new(SeededRandom::new(seed)),
        Arc::new(SimNet { traffic: traffic.clone(), sockets: Sockets::default() }),
    )
}

/// A fingerprint of all bytes that all hosts wrote to their sockets, in order and with their times.
#[derive(Clone, Debug, Default)]
pub struct Traffic(Arc<Mutex<Sums>>);

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    dials: u64,
    writes: u64,
    bytes: u64,
    hash: u64,
    crashing: bool,
}

impl Traffic {
    fn dialled(&self) {
        self.sums(|sums| sums.dials += 1);
    }

    fn wrote(&self, bytes: &[u8]) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_nanos() as u64;
        self.sums(|sums| {
            sums.writes += 1;
            sums.bytes += bytes.len() as u64;
            let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            sums.hash = at.to_le_bytes().iter().chain(bytes).copied().fold(sums.hash, hash);
        });
    }

    /// Runs what crashes a process: its sockets are closed in the order in which they were opened.
    pub(crate) fn while_crashing(&self, crash: impl FnOnce()) {
        self.sums(|sums| sums.crashing = true);
        crash();
        self.sums(|sums| sums.crashing = false);
    }

    fn sums<T>(&self, act: impl FnOnce(&mut Sums) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sums { dials, writes, bytes, hash, .. } = self.sums(|sums| *sums);
        write!(f, "{dials} dials, {writes} writes, {bytes} bytes, fingerprint {hash:016x}")
    }
}

/// The open sockets of one process, by the order in which they were opened.
#[derive(Clone, Default)]
struct Sockets(Arc<Mutex<BTreeMap<u64, Stream>>>);

/// `None`: closed by the crash of its process.
type Stream = Arc<Mutex<Option<turmoil::net::TcpStream>>>;

impl Sockets {
    fn opened(&self, stream: turmoil::net::TcpStream, traffic: &Traffic) -> Counted {
        let stream = Arc::new(Mutex::new(Some(stream)));
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = open.last_key_value().map_or(0, |(last, _)| last + 1);
        open.insert(number, Arc::clone(&stream));
        Counted { stream, number, sockets: self.clone(), traffic: traffic.clone() }
    }

    fn close_all(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for stream in all.into_values() {
            drop(stream.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

/// A socket whose writes are counted.
struct Counted {
    stream: Stream,
    number: u64,
    sockets: Sockets,
    traffic: Traffic,
}

impl Counted {
    fn poll<T>(
        &self,
        act: impl FnOnce(Pin<&mut turmoil::net::TcpStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.stream.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(stream) => act(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.traffic.sums(|sums| sums.crashing) {
            // The tasks of a process that crashes are dropped in an order that depends on how many tasks this program ever
            // had. Its peers are told in an order that does not.
            self.sockets.close_all();
        } else {
            let open = self.sockets.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
            drop(open);
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.poll(|stream| stream.poll_write(cx, buf));
        if let Poll::Ready(Ok(count)) = &written {
            self.traffic.wrote(&buf[..*count]);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}

/// Simulated time since the simulation began, the same on every host.
struct SimClock;

/// 2026-01-01, so that stamps look like stamps.
const EPOCH_UNIX_MS: u64 = 1_767_225_600_000;

impl Clock for SimClock {
    fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }

    fn unix_ms(&self) -> u64 {
        EPOCH_UNIX_MS + u64::try_from(self.now().as_millis()).unwrap_or(0)
    }

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(span))
    }
}

struct SimNet {
    traffic: Traffic,
    sockets: Sockets,
}

#[async_trait::async_trait]
impl Net for SimNet {
    async fn connect(&self, address: &str) -> io::Result<Socket> {
        self.traffic.dialled();
        let stream = turmoil::net::TcpStream::connect(address).await?;
        let (local, peer) = (stream.local_addr().ok(), stream.peer_addr().ok());
        Ok(Socket::new(self.sockets.opened(stream, &self.traffic), local, peer))
    }

    async fn bind(&self, address: &str) -> io::Result<Listener> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port: u16 =
            port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no port in '{address}'")))?;
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        let listener = turmoil::net::TcpListener::bind(any).await?;
        Ok(Listener::new(Accept { listener, traffic: self.traffic.clone(), sockets: self.sockets.clone() }, any))
    }
}

struct Accept {
    listener: turmoil::net::TcpListener,
    traffic: Traffic,
    sockets: Sockets,
}

#[async_trait::async_trait]
impl AcceptSocket for Accept {
    async fn accept(&mut self) -> io::Result<Socket> {
        let (stream, peer) = self.listener.accept().await?;
        let stream = self.sockets.opened(stream, &self.traffic);
        Ok(Socket::new(stream, Some(self.listener.local_addr()?), Some(peer)))
    }
}
