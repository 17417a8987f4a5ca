//! Sockets. A [`Socket`] is any ordered byte stream; the real ones are TCP with `TCP_NODELAY`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tonic::transport::server::Connected;

/// Unacknowledged bytes fail the connection after this long, so that a peer that vanished without a FIN is noticed.
/// Longer than any election timeout: Raft's timers and session deadlines notice first.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a socket must be able to do.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// One connection.
pub struct Socket {
    io: Box<dyn Io>,
    peer: Option<SocketAddr>,
    /// Nothing is ever sent: its end is the message.
    end: watch::Sender<()>,
    held: Arc<AtomicUsize>,
}

/// Tells whether a connection is still there. On the server side every request carries the one of its connection, as an
/// extension.
#[derive(Clone, Debug)]
pub struct Lifeline {
    end: watch::Receiver<()>,
    held: Arc<AtomicUsize>,
}

impl Lifeline {
    /// Whether this end has not closed the connection: it does when the other end has closed or reset it.
    pub fn is_open(&self) -> bool {
        self.end.has_changed().is_ok()
    }

    /// Waits for the end of the connection. Cancelling it is harmless.
    pub async fn closed(&self) {
        let mut end = self.end.clone();
        while end.changed().await.is_ok() {}
    }

    /// Whether both are of the same connection.
    pub fn is_of_same(&self, other: &Lifeline) -> bool {
        self.end.same_channel(&other.end)
    }

    /// Bytes that a server holds for this connection: an account that all its requests share, kept by the server.
    pub fn held(&self) -> &Arc<AtomicUsize> {
        &self.held
    }
}

impl Socket {
    /// Wraps a stream of bytes.
    pub fn new(io: impl Io + 'static, peer: Option<SocketAddr>) -> Socket {
        Socket { io: Box::new(io), peer, end: watch::Sender::new(()), held: Arc::default() }
    }

    /// The other end.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl Connected for Socket {
    type ConnectInfo = Lifeline;

    fn connect_info(&self) -> Lifeline {
        Lifeline { end: self.end.subscribe(), held: Arc::clone(&self.held) }
    }
}

/// Accepts one connection after the other.
#[async_trait::async_trait]
pub trait AcceptSocket: Send {
    /// The next connection. An error concerns that connection only. Cancelling it loses nothing.
    async fn accept(&mut self) -> io::Result<Socket>;
}

/// A listening socket.
pub struct Listener {
    inner: Box<dyn AcceptSocket>,
    local: SocketAddr,
}

impl Listener {
    /// Wraps something that accepts.
    pub fn new(inner: impl AcceptSocket + 'static, local: SocketAddr) -> Listener {
        Listener { inner: Box::new(inner), local }
    }

    /// The address it listens on, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next connection.
    pub async fn accept(&mut self) -> io::Result<Socket> {
        self.inner.accept().await
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("local", &self.local).finish_non_exhaustive()
    }
}

/// A network: connects and listens by `host:port`.
#[async_trait::async_trait]
pub trait Net: Send + Sync + 'static {
    /// Connects; unbounded in time, so bound it.
    async fn connect(&self, address: &str) -> io::Result<Socket>;
    /// Listens; port 0 takes a free one.
    async fn bind(&self, address: &str) -> io::Result<Listener>;
}

/// TCP of this machine.
#[derive(Clone, Copy, Debug)]
pub struct TcpNet;

#[async_trait::async_trait]
impl Net for TcpNet {
    #[allow(clippy::disallowed_methods)] // this is the door
    async fn connect(&self, address: &str) -> io::Result<Socket> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        tune(&stream)?;
        let peer = stream.peer_addr().ok();
        Ok(Socket::new(stream, peer))
    }

    #[allow(clippy::disallowed_methods)] // this is the door; tokio sets SO_REUSEADDR, so a restart finds its port free
    async fn bind(&self, address: &str) -> io::Result<Listener> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        Ok(Listener::new(TcpAccept(listener), local))
    }
}

struct TcpAccept(tokio::net::TcpListener);

#[async_trait::async_trait]
impl AcceptSocket for TcpAccept {
    async fn accept(&mut self) -> io::Result<Socket> {
        let (stream, peer) = self.0.accept().await?;
        tune(&stream)?;
        Ok(Socket::new(stream, Some(peer)))
    }
}

fn tune(stream: &tokio::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))
}
