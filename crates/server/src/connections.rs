//! The connections of a node: how many there may be, how soon one must speak, and that a stopping node can cut them. gRPC
//! streams live as long as their peers like; a node that has stopped must not be kept alive, nor its folder kept open, by
//! somebody's idle stream.
//!
//! Keeps true: whoever connects and says nothing cannot keep out those who speak. When all places are taken, the oldest
//! connection that has said nothing yet gives up its own; only if all have spoken is a new one closed at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use palisade_metrics::Gauge;
use palisade_world::grpc::incoming;
use palisade_world::{Lifeline, Listener, Socket, World};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{oneshot, watch};
use tonic::transport::server::Connected;

/// Connections at once, unless the process may open fewer files: twice the clients that we plan for (each has one for requests
/// and one for its sessions), some tens of kilobytes each.
pub(crate) const MAX_CONNECTIONS: usize = 20_480;

/// How long a connection may say nothing after it came about. Every client of gRPC speaks at once.
const SILENCE: Duration = Duration::from_secs(10);

/// Whether connections go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// They do.
    Open,
    /// All are cut, and new ones at once.
    Cut,
}

/// The connections of a listener, at most `most` at once, each cut when `line` says so.
pub(crate) fn bounded(
    listener: Listener,
    most: usize,
    open: Arc<Gauge>,
    line: watch::Receiver<Line>,
    world: World,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let places = Arc::new(Mutex::new(Places { most, open, ..Places::default() }));
    incoming(listener).filter_map(move |accepted| {
        let admitted = match accepted {
            Ok(socket) => admit(&places, line.clone(), &world, socket).map(Ok),
            Err(error) => Some(Err(error)),
        };
        std::future::ready(admitted)
    })
}

/// Gives a connection its place; without one it is closed here.
fn admit(
    places: &Arc<Mutex<Places>>,
    mut line: watch::Receiver<Line>,
    world: &World,
    socket: Socket,
) -> Option<Connection> {
    let (number, evicted) = lock(places).take()?;
    let world = world.clone();
    let cut = Box::pin(async move {
        tokio::select! {
            // The sender is gone: nobody can cut any more, and the node has stopped.
            _ = line.wait_for(|line| *line == Line::Cut) => Cut::Stopped,
            why = silent(evicted, &world) => why,
        }
    });
    Some(Connection { socket, cut, place: Place { number, places: Arc::clone(places) }, spoken: Spoken::No })
}

/// Resolves when a connection has said nothing for too long, or somebody else needs its place; never once it has spoken.
async fn silent(mut evicted: oneshot::Receiver<()>, world: &World) -> Cut {
    let late = tokio::select! {
        evicted = &mut evicted => evicted.is_ok(),
        () = world.sleep(SILENCE) => matches!(evicted.try_recv(), Ok(()) | Err(oneshot::error::TryRecvError::Empty)),
    };
    if late { Cut::Silent } else { std::future::pending().await }
}

/// Why a connection is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    Stopped,
    Silent,
}

impl From<Cut> for io::Error {
    fn from(cut: Cut) -> io::Error {
        let why = match cut {
            Cut::Stopped => "the node has stopped",
            Cut::Silent => "the connection said nothing",
        };
        io::Error::new(io::ErrorKind::ConnectionAborted, why)
    }
}

/// Who is connected.
#[derive(Debug, Default)]
struct Places {
    most: usize,
    taken: usize,
    /// Shows `taken`.
    open: Arc<Gauge>,
    last: u64,
    /// Those that have said nothing yet, oldest first. Dropping an entry says that it has spoken.
    silent: BTreeMap<u64, oneshot::Sender<()>>,
    /// Whether the last one that came found a place: each shortage is logged once.
    short: Short,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Short {
    #[default]
    No,
    Yes,
}

impl Places {
    /// A number for a new connection, and what resolves when it must give its place up; `None`: there is no place.
    fn take(&mut self) -> Option<(u64, oneshot::Receiver<()>)> {
        if self.taken >= self.most {
            if self.short == Short::No {
                self.short = Short::Yes;
                tracing::warn!(connections = self.taken, "there is no place for further connections");
            }
            // It is cut at its next step and counted until then.
            let (_, oldest) = self.silent.pop_first()?;
            let _ = oldest.send(());
        } else {
            self.short = Short::No;
        }
        self.taken += 1;
        self.open.set(self.taken);
        self.last += 1;
        let (evict, evicted) = oneshot::channel();
        self.silent.insert(self.last, evict);
        Some((self.last, evicted))
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner) // its steps are whole
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
struct Place {
    number: u64,
    places: Arc<Mutex<Places>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = lock(&self.places);
        places.taken -= 1;
        places.open.set(places.taken);
        places.silent.remove(&self.number);
    }
}

/// One accepted connection.
pub(crate) struct Connection {
    socket: Socket,
    cut: Pin<Box<dyn Future<Output = Cut> + Send>>,
    place: Place,
    spoken: Spoken,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spoken {
    No,
    Yes,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(cut) = self.cut.as_mut().poll(cx) {
            // Polled to its end: what comes after is an error again.
            self.cut = Box::pin(std::future::ready(cut));
            return Poll::Ready(Err(cut.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        if self.spoken == Spoken::No && buf.filled().len() > before {
            self.spoken = Spoken::Yes;
            lock(&self.place.places).silent.remove(&self.place.number);
        }
        read
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

#[cfg(test)]
mod tests {
    use super::*;

    fn places(most: usize) -> Places {
        Places { most, ..Places::default() }
    }

    #[test]
    fn whoever_says_nothing_gives_its_place_to_a_new_one_and_whoever_spoke_keeps_it() {
        let mut places = places(2);
        let (first, mut first_evicted) = places.take().expect("there is room");
        let (_, mut second_evicted) = places.take().expect("there is room");
        places.silent.remove(&first); // it spoke
        assert!(places.take().is_some(), "the second gives its place up");
        assert_eq!(second_evicted.try_recv(), Ok(()));
        assert_eq!(first_evicted.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn when_all_have_spoken_a_new_one_is_closed_until_a_place_is_given_back() {
        let shared = Arc::new(Mutex::new(places(1)));
        let (number, _evicted) = lock(&shared).take().expect("there is room");
        lock(&shared).silent.clear();
        let place = Place { number, places: Arc::clone(&shared) };
        assert!(lock(&shared).take().is_none());
        drop(place);
        assert!(lock(&shared).take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_cut_and_one_that_spoke_is_not() {
        let world = crate::sessions::tests::paused_world();
        let (evict, evicted) = oneshot::channel();
        let before = world.now();
        assert_eq!(silent(evicted, &world).await, Cut::Silent);
        assert_eq!(world.now() - before, SILENCE);
        drop(evict);
        let (evict, evicted) = oneshot::channel();
        drop(evict);
        assert!(world.timeout(SILENCE * 2, silent(evicted, &world)).await.is_none());
    }
}
