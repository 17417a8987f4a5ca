//! Turmoil's sockets behind the seam. They say nothing while their process is paused, and what they carry is counted.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use palisade_world::{AcceptSocket, Listener, Net, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Gate, Traffic};
use crate::plan::{Role, Who};

/// The network of one process.
#[derive(Clone)]
pub(super) struct SimNet {
    gate: Gate,
    traffic: Traffic,
    /// The only node that it reaches; `None`: it reaches all.
    behind: Option<usize>,
    sockets: Sockets,
}

impl SimNet {
    pub(super) fn new(gate: Gate, traffic: Traffic, behind: Option<usize>) -> SimNet {
        SimNet { gate, traffic, behind, sockets: Sockets::default() }
    }

    fn reaches(&self, address: &str) -> bool {
        let to: Option<Who> = address.rsplit_once(':').and_then(|(host, _)| host.parse().ok());
        let node = to.filter(|to| to.role == Role::Node).map(|to| to.number);
        self.behind.is_none() || node.is_none() || self.behind == node
    }

    fn opened(&self, stream: turmoil::net::TcpStream) -> SimSocket {
        let stream = Arc::new(Mutex::new(Some(stream)));
        let mut table = self.sockets.lock();
        let number = table.open.last_key_value().map_or(0, |(last, _)| last + 1);
        table.open.insert(number, Arc::clone(&stream));
        SimSocket { stream, number, net: self.clone() }
    }
}

/// The sockets of one process.
#[derive(Clone, Default)]
struct Sockets(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// By the order in which they were opened.
    open: BTreeMap<u64, Stream>,
    /// Dropped while the process was paused. A stopped process closes nothing; it does when it goes on.
    given_up: Vec<u64>,
}

/// `None`: closed by the end of its process.
type Stream = Arc<Mutex<Option<turmoil::net::TcpStream>>>;

impl Sockets {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, number: u64) {
        let closed = self.lock().open.remove(&number);
        drop(closed);
    }

    fn close_given_up(&self) {
        let given_up = std::mem::take(&mut self.lock().given_up);
        given_up.into_iter().for_each(|number| self.close(number));
    }

    fn close_all(&self) {
        let all = std::mem::take(&mut self.lock().open);
        for stream in all.into_values() {
            drop(stream.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

struct SimSocket {
    stream: Stream,
    number: u64,
    net: SimNet,
}

impl SimSocket {
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut turmoil::net::TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        ready!(self.net.gate.poll_open(cx));
        self.net.sockets.close_given_up();
        match self.stream.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(stream) => act(Pin::new(stream), cx),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if self.net.traffic.is_ending() {
            // The tasks of a process that ends are dropped in an order that depends on how many tasks this program ever had.
            // Its peers are told in an order that does not.
            self.net.sockets.close_all();
        } else if self.net.gate.is_closed() {
            self.net.sockets.lock().given_up.push(self.number);
        } else {
            self.net.sockets.close(self.number);
        }
    }
}

impl AsyncRead for SimSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for SimSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.poll(cx, |stream, cx| stream.poll_write(cx, buf));
        if let Poll::Ready(Ok(count)) = &written {
            self.net.traffic.wrote(&buf[..*count]);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

#[async_trait::async_trait]
impl Net for SimNet {
    async fn connect(&self, address: &str) -> io::Result<Socket> {
        self.traffic.dialled();
        self.gate.opened().await;
        if !self.reaches(address) {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let stream = turmoil::net::TcpStream::connect(address).await?;
        let peer = stream.peer_addr().ok();
        Ok(Socket::new(self.opened(stream), peer))
    }

    async fn bind(&self, address: &str) -> io::Result<Listener> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port: u16 =
            port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no port in '{address}'")))?;
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        let listener = turmoil::net::TcpListener::bind(any).await?;
        let local = listener.local_addr()?;
        Ok(Listener::new(Accept { listener, net: self.clone() }, local))
    }
}

struct Accept {
    listener: turmoil::net::TcpListener,
    net: SimNet,
}

#[async_trait::async_trait]
impl AcceptSocket for Accept {
    async fn accept(&mut self) -> io::Result<Socket> {
        // Before, not after: nothing that was accepted may be lost with a cancelled call.
        self.net.gate.opened().await;
        let (stream, peer) = self.listener.accept().await?;
        Ok(Socket::new(self.net.opened(stream), Some(peer)))
    }
}
