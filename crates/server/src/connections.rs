//! Connections that a stopping node can cut. gRPC streams live as long as their peers like; a node that has stopped must
//! not be kept alive, nor its folder kept open, by somebody's idle stream.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use palisade_world::grpc::incoming;
use palisade_world::{Lifeline, Listener, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tonic::transport::server::Connected;

/// Whether connections go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// They do.
    Open,
    /// All are cut, and new ones at once.
    Cut,
}

/// The connections of a listener, each cut when `line` says so.
pub(crate) fn cuttable(
    listener: Listener,
    line: watch::Receiver<Line>,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    incoming(listener).map(move |accepted| {
        let mut line = line.clone();
        let cut = Box::pin(async move {
            // The sender is gone: nobody can cut any more, and the node has stopped.
            let _ = line.wait_for(|line| *line == Line::Cut).await;
        });
        accepted.map(|socket| Connection { socket, cut })
    })
}

/// One accepted connection.
pub(crate) struct Connection {
    socket: Socket,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            // Polled to its end: what comes after is an error again.
            self.cut = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the node has stopped")));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = Lifeline;

    fn connect_info(&self) -> Lifeline {
        self.socket.connect_info()
    }
}
