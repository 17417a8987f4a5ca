//! The demo's own proxy: it stands before a TaskExecutor, and can hold back what a leader writes until its successor has acted.
//!
//! That is how a delayed packet is made that is real: the bytes were written by a leader while it led. The proxy counts the fenced
//! calls in what it held (by reading along, see [`super::calls`]), so that the demo knows how many stale messages it let loose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_world::{Listener, Socket, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::watch;

use super::calls::CallCounter;
use crate::exit::Failure;

/// Held bytes of one connection are bounded: a leader writes little in the moment before it is killed.
const MAX_HELD: usize = 4 << 20;
const BUFFER: usize = 64 << 10;

/// What a connection does with what comes from the caller. Connections that are made during a hold pass freely: they are the
/// successor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// Connections with a number below this one are held.
    HoldBelow(u64),
}

/// A proxy before one address.
pub(crate) struct Proxy {
    address: String,
    gate: watch::Sender<Gate>,
    shared: Arc<Shared>,
    _accept: palisade_world::Task<()>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicU64,
    /// Fenced calls in bytes that were held.
    held_calls: AtomicU64,
}

impl Proxy {
    /// Listens on a free loopback port, before `upstream`.
    pub(crate) async fn start(upstream: String, world: &World) -> Result<Proxy, Failure> {
        let listener = world.bind("127.0.0.1:0").await?;
        let address = listener.local_addr().to_string();
        let (gate, gates) = watch::channel(Gate::Open);
        let shared = Arc::new(Shared::default());
        let accept = world.spawn("demo-proxy", accept(listener, upstream, gates, Arc::clone(&shared), world.clone()));
        Ok(Proxy { address, gate, shared, _accept: accept })
    }

    /// Where callers connect.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Holds what comes from the callers that are connected now.
    pub(crate) fn hold(&self) {
        self.gate.send_replace(Gate::HoldBelow(self.shared.connections.load(Ordering::SeqCst)));
    }

    /// Lets go what was held; gives the number of fenced calls in it.
    pub(crate) fn release(&self) -> u64 {
        self.gate.send_replace(Gate::Open);
        self.shared.held_calls.swap(0, Ordering::SeqCst)
    }

    /// Fenced calls that are held now.
    pub(crate) fn held(&self) -> u64 {
        self.shared.held_calls.load(Ordering::SeqCst)
    }
}

async fn accept(
    mut listener: Listener,
    upstream: String,
    gate: watch::Receiver<Gate>,
    shared: Arc<Shared>,
    world: World,
) {
    loop {
        let Ok(caller) = listener.accept().await else { continue };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        let to = upstream.clone();
        let (gate, shared, at) = (gate.clone(), Arc::clone(&shared), world.clone());
        let serve = async move {
            let Ok(receiver) = at.connect(&to).await else { return };
            let (from_caller, to_caller) = split(caller);
            let (from_receiver, to_receiver) = split(receiver);
            let back = at.spawn("demo-proxy-back", copy_back(from_receiver, to_caller));
            forward(number, from_caller, to_receiver, gate, &shared).await;
            // The receiver decides when the connection ends: cutting it here could swallow what was just let go.
            let _ = back.await;
        };
        world.spawn("demo-proxy-connection", serve).detach();
    }
}

async fn copy_back(mut from: ReadHalf<Socket>, mut to: WriteHalf<Socket>) {
    let mut buffer = vec![0; BUFFER];
    let mut caller_listens = true;
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        // A killed caller hears nothing any more; the receiver must be read all the same, or it would block.
        caller_listens = caller_listens && to.write_all(&buffer[..count]).await.is_ok();
    }
}

/// Copies what the caller writes, or holds it while the gate says so. Returns when the caller is gone and nothing is held.
async fn forward(
    number: u64,
    mut from: ReadHalf<Socket>,
    mut to: WriteHalf<Socket>,
    mut gate: watch::Receiver<Gate>,
    shared: &Shared,
) {
    let holds = |gate: Gate| matches!(gate, Gate::HoldBelow(below) if number < below);
    let mut calls = CallCounter::default();
    let mut held = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut caller_lives = true;
    while caller_lives || !held.is_empty() {
        if !holds(*gate.borrow_and_update()) && !held.is_empty() {
            if to.write_all(&held).await.is_err() {
                return;
            }
            held.clear();
        }
        tokio::select! {
            read = from.read(&mut buffer), if caller_lives && held.len() < MAX_HELD => {
                let count = read.unwrap_or(0);
                caller_lives = count > 0;
                let counted = calls.read(&buffer[..count]);
                if holds(*gate.borrow()) {
                    held.extend_from_slice(&buffer[..count]);
                    shared.held_calls.fetch_add(counted, Ordering::SeqCst);
                } else if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            changed = gate.changed() => if changed.is_err() { return },
        }
    }
}
