//! The simulated seam: turmoil's sockets, the simulation's clock, randomness from the seed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use palisade_world::{AcceptSocket, Clock, Listener, Net, SeededRandom, Socket, World};

/// A world for one host. `seed` should differ between hosts and between restarts of a host.
pub fn simulated(seed: u64) -> World {
    World::new(Arc::new(SimClock), Arc::new(SeededRandom::new(seed)), Arc::new(SimNet))
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

struct SimNet;

#[async_trait::async_trait]
impl Net for SimNet {
    async fn connect(&self, address: &str) -> io::Result<Socket> {
        let stream = turmoil::net::TcpStream::connect(address).await?;
        let (local, peer) = (stream.local_addr().ok(), stream.peer_addr().ok());
        Ok(Socket::new(stream, local, peer))
    }

    async fn bind(&self, address: &str) -> io::Result<Listener> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port: u16 =
            port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no port in '{address}'")))?;
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        let listener = turmoil::net::TcpListener::bind(any).await?;
        Ok(Listener::new(Accept(listener), any))
    }
}

struct Accept(turmoil::net::TcpListener);

#[async_trait::async_trait]
impl AcceptSocket for Accept {
    async fn accept(&mut self) -> io::Result<Socket> {
        let (stream, peer) = self.0.accept().await?;
        Ok(Socket::new(stream, Some(self.0.local_addr()?), Some(peer)))
    }
}
