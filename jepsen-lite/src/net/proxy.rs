//! A TCP proxy before one process: everything that reaches it passes here, and is held, delayed or let through as the faults of
//! the moment say for the link that the bytes take.
//!
//! What it keeps true: bytes are never changed, reordered or lost, the end of a connection among them: a cut link tells nobody that
//! the other end is gone. What is held is bounded; a sender that goes on then waits in its socket, as on a real network.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::faults::{Fault, Faults};
use super::who::Who;

/// Bytes of one direction of one connection that are held at most.
const MAX_HELD: usize = 4 << 20;
const BUFFER: usize = 64 << 10;
/// How long TCP waits at least before it sends again what was lost.
const SENT_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long an upstream that does not answer is waited for.
const CONNECT: Duration = Duration::from_secs(2);

/// Who is taken to be at the callers' end.
#[derive(Clone, Debug)]
pub(crate) enum Callers {
    /// Whichever of our processes the socket belongs to.
    ByProcess(Who),
    /// Always this one: the proxy was made for it.
    Named(String),
}

/// A proxy; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    upstream: Arc<Mutex<String>>,
    _accept: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free loopback port for callers of `to`, which is at `upstream`.
    pub(crate) async fn start(
        to: &str,
        upstream: &str,
        callers: Callers,
        faults: watch::Receiver<Arc<Faults>>,
        seed: u64,
    ) -> anyhow::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a proxy could not listen")?;
        let address = listener.local_addr()?;
        let upstream = Arc::new(Mutex::new(upstream.to_owned()));
        let link = Link { to: to.to_owned(), upstream: Arc::clone(&upstream), callers, faults };
        let mut accept = JoinSet::new();
        accept.spawn(serve(listener, link, seed));
        Ok(Proxy { address, upstream, _accept: accept })
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on connections go there.
    pub(crate) fn moved(&self, upstream: &str) {
        upstream.clone_into(&mut self.upstream.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

#[derive(Clone)]
struct Link {
    to: String,
    upstream: Arc<Mutex<String>>,
    callers: Callers,
    faults: watch::Receiver<Arc<Faults>>,
}

async fn serve(listener: TcpListener, link: Link, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((caller, peer)) = accepted {
                connections.spawn(connection(caller, peer, link.clone(), rng.random()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(caller: TcpStream, peer: SocketAddr, link: Link, seed: u64) {
    let from = match &link.callers {
        Callers::Named(name) => Some(name.clone()),
        Callers::ByProcess(who) => {
            let (who, local) = (who.clone(), caller.local_addr());
            let Ok(local) = local else { return };
            tokio::task::spawn_blocking(move || who.connects(peer, local)).await.ok().flatten()
        }
    };
    // Whose link it would be is not known: the caller is gone already, or is none of ours.
    let Some(from) = from else { return };
    // Nobody connects over a cut link: it waits, as SYN packets that are lost do.
    let mut faults = link.faults.clone();
    let cut =
        |faults: &Arc<Faults>| [faults.of(&from, &link.to), faults.of(&link.to, &from)].contains(&Some(Fault::Cut));
    if faults.wait_for(|faults| !cut(faults)).await.is_err() {
        return;
    }
    let upstream = link.upstream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let Ok(Ok(receiver)) = tokio::time::timeout(CONNECT, TcpStream::connect(&upstream)).await else { return };
    let _ = (caller.set_nodelay(true), receiver.set_nodelay(true));
    let (from_caller, to_caller) = caller.into_split();
    let (from_receiver, to_receiver) = receiver.into_split();
    let there = Pipe::new(from.clone(), link.to.clone(), link.faults.clone(), seed);
    let back = Pipe::new(link.to.clone(), from, link.faults.clone(), seed ^ 1);
    tokio::join!(there.carry(from_caller, to_receiver), back.carry(from_receiver, to_caller));
}

/// One direction of one connection.
struct Pipe {
    from: String,
    to: String,
    faults: watch::Receiver<Arc<Faults>>,
    rng: SmallRng,
    /// What was read and is not written yet, with the time at which it arrives; `None` is the end.
    held: VecDeque<(Instant, Option<Bytes>)>,
    bytes: usize,
    /// The link was cut while this connection was there.
    was_cut: bool,
}

impl Pipe {
    fn new(from: String, to: String, faults: watch::Receiver<Arc<Faults>>, seed: u64) -> Pipe {
        Pipe { from, to, faults, rng: SmallRng::seed_from_u64(seed), held: VecDeque::new(), bytes: 0, was_cut: false }
    }

    /// Returns when the end has been passed on, or the receiver is gone.
    async fn carry(mut self, mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf) {
        let mut buffer = vec![0; BUFFER];
        let mut open = true;
        loop {
            let fault = self.faults.borrow_and_update().of(&self.from, &self.to);
            let blocked = fault == Some(Fault::Cut);
            self.was_cut |= blocked;
            let due = self.held.front().map(|(due, _)| *due).filter(|_| !blocked);
            tokio::select! {
                read = reader.read(&mut buffer), if open && self.bytes < MAX_HELD => {
                    let count = read.unwrap_or(0);
                    open = count > 0;
                    let due = self.due(fault);
                    self.bytes += count;
                    self.held.push_back((due, (count > 0).then(|| Bytes::copy_from_slice(&buffer[..count]))));
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let Some((_, Some(bytes))) = self.held.pop_front() else {
                        // A receiver that is told of the end at once drops what came with it, and whoever wants to see late bytes
                        // refused sees nothing. Packets that were lost do not arrive all in one moment either.
                        if self.was_cut {
                            sleep(SENT_AGAIN_AFTER).await;
                        }
                        let _ = writer.shutdown().await;
                        return;
                    };
                    self.bytes -= bytes.len();
                    if writer.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                changed = self.faults.changed() => if changed.is_err() { return },
            }
        }
    }

    /// When what is read now arrives: never before what was read earlier.
    fn due(&mut self, fault: Option<Fault>) -> Instant {
        let late = match fault {
            None | Some(Fault::Cut) => Duration::ZERO,
            Some(Fault::Slow(by)) => by + by.mul_f64(self.rng.random_range(0.0..0.5)),
            Some(Fault::Lossy(percent)) => {
                let mut late = Duration::ZERO;
                let mut again = SENT_AGAIN_AFTER;
                while self.rng.random_range(0..100) < percent && late < Duration::from_secs(2) {
                    late += again;
                    again *= 2;
                }
                late
            }
        };
        let due = Instant::now() + late;
        self.held.back().map_or(due, |(earlier, _)| due.max(*earlier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> (String, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });
        (address, tasks)
    }

    async fn started(faults: &watch::Sender<Arc<Faults>>) -> (Proxy, JoinSet<()>) {
        let (upstream, tasks) = echo().await;
        let named = Callers::Named("client".into());
        (Proxy::start("node-1", &upstream, named, faults.subscribe(), 7).await.unwrap(), tasks)
    }

    #[tokio::test]
    async fn what_is_cut_is_held_and_arrives_unchanged_when_it_is_mended() {
        let (faults, _) = watch::channel(Arc::new(Faults::none()));
        let (proxy, _echo) = started(&faults).await;
        let mut caller = TcpStream::connect(proxy.address()).await.unwrap();
        let mut heard = [0; 3];
        caller.write_all(b"one").await.unwrap();
        caller.read_exact(&mut heard).await.unwrap();
        faults.send_replace(Arc::new(Faults::mute("client", &["node-1".to_owned()])));
        caller.write_all(b"two").await.unwrap();
        // Whatever the clock says: what must not come has not come after the proxy has surely read it, many times over.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(caller.try_read(&mut heard).is_err());
        faults.send_replace(Arc::new(Faults::none()));
        caller.write_all(b"xyz").await.unwrap();
        let mut rest = [0; 6];
        caller.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"twoxyz");
    }

    #[tokio::test]
    async fn a_lossy_link_loses_nothing_and_keeps_the_order() {
        let names = ["client".to_owned(), "node-1".to_owned()];
        let (faults, _) = watch::channel(Arc::new(Faults::everywhere(&names, Fault::Lossy(30))));
        let (proxy, _echo) = started(&faults).await;
        let mut caller = TcpStream::connect(proxy.address()).await.unwrap();
        let sent: Vec<u8> = (0..200).collect();
        caller.write_all(&sent).await.unwrap();
        caller.shutdown().await.unwrap();
        let mut heard = Vec::new();
        caller.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, sent);
    }
}
