//! A network in memory and a clock that stands still unless everybody waits: whole services run on it, in paused time. Connections
//! are refused, left hanging and cut by address.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade_world::{AcceptSocket, Clock, Listener, Net, SeededRandom, Socket, Task, World};
use tokio::sync::mpsc;

/// What a connection attempt meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    Open,
    Refuses,
    Hangs,
}

type Hook = Arc<dyn Fn(&str) -> Door + Send + Sync>;

/// The network. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct MemoryNet(Arc<Mutex<Wires>>);

#[derive(Default)]
struct Wires {
    listeners: BTreeMap<String, mpsc::UnboundedSender<Socket>>,
    doors: BTreeMap<String, Door>,
    /// Asked at each attempt to connect; may shut the door.
    hook: Option<Hook>,
    attempts: BTreeMap<String, u64>,
    /// Carry bytes as long as they are held.
    carriers: BTreeMap<String, Vec<Task<()>>>,
    ports: u16,
}

impl MemoryNet {
    /// A world on this network, in tokio's (paused) time.
    pub(crate) fn world(&self, seed: u64) -> World {
        World::new(Arc::new(Paused::new()), Arc::new(SeededRandom::new(seed)), Arc::new(self.clone()))
    }

    pub(crate) fn door(&self, address: &str, door: Door) {
        self.0.lock().unwrap().doors.insert(address.to_owned(), door);
    }

    pub(crate) fn at_each_connect(&self, hook: impl Fn(&str) -> Door + Send + Sync + 'static) {
        self.0.lock().unwrap().hook = Some(Arc::new(hook));
    }

    /// Cuts what is connected to an address; new connections are made as its door says.
    pub(crate) fn cut(&self, address: &str) {
        let carriers = self.0.lock().unwrap().carriers.remove(address);
        drop(carriers);
    }

    /// Nobody listens there any more, and what was connected is cut.
    pub(crate) fn end(&self, address: &str) {
        self.0.lock().unwrap().listeners.remove(address);
        self.cut(address);
    }

    /// How often somebody tried to connect there.
    pub(crate) fn attempts(&self, address: &str) -> u64 {
        self.0.lock().unwrap().attempts.get(address).copied().unwrap_or(0)
    }
}

#[async_trait::async_trait]
impl Net for MemoryNet {
    async fn connect(&self, address: &str) -> io::Result<Socket> {
        let (hook, door, listener) = {
            let mut wires = self.0.lock().unwrap();
            *wires.attempts.entry(address.to_owned()).or_default() += 1;
            let door = wires.doors.get(address).copied().unwrap_or(Door::Open);
            (wires.hook.clone(), door, wires.listeners.get(address).cloned())
        };
        let door = match hook.map_or(Door::Open, |hook| hook(address)) {
            Door::Open => door,
            shut => shut,
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        match door {
            Door::Open => {}
            Door::Refuses => return Err(refused()),
            Door::Hangs => std::future::pending().await,
        }
        let listener = listener.ok_or_else(refused)?;
        let (near, mut near_end) = tokio::io::duplex(1 << 20);
        let (far, mut far_end) = tokio::io::duplex(1 << 20);
        let carrier = crate::spawn(async move {
            // Either side's end is the connection's.
            let _ = tokio::io::copy_bidirectional(&mut near_end, &mut far_end).await;
        });
        self.0.lock().unwrap().carriers.entry(address.to_owned()).or_default().push(carrier);
        listener.send(Socket::new(far, None)).map_err(|_| refused())?;
        Ok(Socket::new(near, None))
    }

    async fn bind(&self, address: &str) -> io::Result<Listener> {
        let mut wires = self.0.lock().unwrap();
        let mut local: SocketAddr = address.parse().map_err(io::Error::other)?;
        if local.port() == 0 {
            wires.ports += 1;
            local.set_port(wires.ports);
        }
        let (sender, sockets) = mpsc::unbounded_channel();
        wires.listeners.insert(local.to_string(), sender);
        Ok(Listener::new(Accept(sockets), local))
    }
}

struct Accept(mpsc::UnboundedReceiver<Socket>);

#[async_trait::async_trait]
impl AcceptSocket for Accept {
    async fn accept(&mut self) -> io::Result<Socket> {
        match self.0.recv().await {
            Some(socket) => Ok(socket),
            None => std::future::pending().await,
        }
    }
}

/// Tokio's clock.
struct Paused(tokio::time::Instant);

impl Paused {
    #[allow(clippy::disallowed_methods)] // tokio's own clock is the one that is paused
    fn new() -> Paused {
        Paused(tokio::time::Instant::now())
    }
}

impl Clock for Paused {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn unix_ms(&self) -> u64 {
        0
    }

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(span))
    }
}
