//! Loopback with names for addresses, and links between two names that can be cut in one direction of dialling.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use palisade_world::{Listener, Net, Socket, TcpNet};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// Who dials, and whom.
type Link = (String, String);

/// What all names share: a node listens on a free port, and whoever dials its name finds it.
#[derive(Default)]
pub(crate) struct Names {
    ports: Mutex<BTreeMap<String, String>>,
    cut: watch::Sender<BTreeSet<Link>>,
    dialled: Mutex<BTreeMap<Link, usize>>,
}

impl Names {
    /// Ends the connections that `from` has dialled to `to`, and lets it dial none.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        self.cut.send_modify(|cut| {
            cut.insert((from.to_owned(), to.to_owned()));
        });
    }

    /// Lets it dial again.
    pub(crate) fn mend(&self, from: &str, to: &str) {
        self.cut.send_modify(|cut| {
            cut.remove(&(from.to_owned(), to.to_owned()));
        });
    }

    /// How many connections `from` has made to `to`.
    pub(crate) fn dialled(&self, from: &str, to: &str) -> usize {
        self.dialled.lock().unwrap().get(&(from.to_owned(), to.to_owned())).copied().unwrap_or_default()
    }
}

/// The network as one of the names sees it.
pub(crate) struct Loopback {
    pub(crate) names: Arc<Names>,
    pub(crate) from: String,
}

#[tonic::async_trait]
impl Net for Loopback {
    async fn connect(&self, address: &str) -> io::Result<Socket> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let link = (self.from.clone(), address.to_owned());
        let mut cuts = self.names.cut.subscribe();
        if cuts.borrow().contains(&link) {
            return Err(refused());
        }
        let real = self.names.ports.lock().unwrap().get(address).cloned().ok_or_else(refused)?;
        let socket = TcpNet.connect(&real).await?;
        *self.names.dialled.lock().unwrap().entry(link.clone()).or_default() += 1;
        let peer = socket.peer();
        let cut = Box::pin(async move {
            let _ = cuts.wait_for(|cuts| cuts.contains(&link)).await;
        });
        Ok(Socket::new(Wire { socket, cut }, peer))
    }

    async fn bind(&self, address: &str) -> io::Result<Listener> {
        let listener = TcpNet.bind("127.0.0.1:0").await?;
        self.names.ports.lock().unwrap().insert(address.to_owned(), listener.local_addr().to_string());
        Ok(listener)
    }
}

/// A connection that can be cut.
struct Wire {
    socket: Socket,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            self.cut = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
