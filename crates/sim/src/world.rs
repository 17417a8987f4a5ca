//! The simulated seam: turmoil's sockets, the simulation's clock, randomness from the seed. Every byte that is written to a
//! socket goes into the [`Traffic`] of the run, so that two runs are compared by all that they said, not by what we looked at.

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
    World::new(Arc::new(SimClock), Arc::new(SeededRandom::new(seed)), Arc::new(SimNet { traffic: traffic.clone() }))
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

    fn sums<T>(&self, act: impl FnOnce(&mut Sums) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sums { dials, writes, bytes, hash } = self.sums(|sums| *sums);
        write!(f, "{dials} dials, {writes} writes, {bytes} bytes, fingerprint {hash:016x}")
    }
}

/// A socket whose writes are counted.
struct Counted {
    stream: turmoil::net::TcpStream,
    traffic: Traffic,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &written {
            self.traffic.wrote(&buf[..*count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
}

#[async_trait::async_trait]
impl Net for SimNet {
    async fn connect(&self, address: &str) -> io::Result<Socket> {
        self.traffic.dialled();
        let stream = turmoil::net::TcpStream::connect(address).await?;
        let (local, peer) = (stream.local_addr().ok(), stream.peer_addr().ok());
        Ok(Socket::new(Counted { stream, traffic: self.traffic.clone() }, local, peer))
    }

    async fn bind(&self, address: &str) -> io::Result<Listener> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port: u16 =
            port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no port in '{address}'")))?;
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        let listener = turmoil::net::TcpListener::bind(any).await?;
        Ok(Listener::new(Accept { listener, traffic: self.traffic.clone() }, any))
    }
}

struct Accept {
    listener: turmoil::net::TcpListener,
    traffic: Traffic,
}

#[async_trait::async_trait]
impl AcceptSocket for Accept {
    async fn accept(&mut self) -> io::Result<Socket> {
        let (stream, peer) = self.listener.accept().await?;
        let stream = Counted { stream, traffic: self.traffic.clone() };
        Ok(Socket::new(stream, Some(self.listener.local_addr()?), Some(peer)))
    }
}
