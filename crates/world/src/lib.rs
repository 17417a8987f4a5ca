//! The only door to clocks, randomness, sockets, tasks, threads and files.
//!
//! Everything that touches the world asks a [`World`]: binaries hand in [`World::real`], the simulation hands in one whose
//! clock is paused, whose random source is seeded, whose network can be cut and whose files lose what was not synced. Nothing
//! else in the workspace reads a clock, opens a socket or spawns a task (`.clippy.toml` says so); only `storage` and command
//! lines touch files by themselves.
//!
//! What is deliberately not here: decisions, retries, protocols.

mod clock;
mod date;
pub mod files;
pub mod grpc;
mod net;
mod random;
mod tasks;
mod threads;

use std::future::Future;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub use clock::{BootClock, Clock};
pub use files::{Files, LocalFiles};
pub use net::{AcceptSocket, Io, Lifeline, Listener, Net, Socket, TcpNet};
pub use random::{OsRandom, Random, SeededRandom};
pub use tasks::{Task, TaskEnded, Tasks};
pub use threads::{ThreadPool, Threads};

/// Clock, randomness, network, tasks, threads and files in one cheap handle.
#[derive(Clone)]
pub struct World {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    net: Arc<dyn Net>,
    threads: Arc<dyn Threads>,
    files: Arc<dyn Files>,
}

impl World {
    /// The real one: boot-time clock, operating system's randomness, TCP, the threads and files of this machine.
    pub fn real() -> World {
        World::new(Arc::new(BootClock), Arc::new(OsRandom), Arc::new(TcpNet))
    }

    /// One put together by a test or the simulation, on the threads and files of this machine.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>, net: Arc<dyn Net>) -> World {
        World { clock, random, net, threads: Arc::new(ThreadPool), files: Arc::new(LocalFiles) }
    }

    /// The same world with other threads.
    #[must_use]
    pub fn with_threads(self, threads: Arc<dyn Threads>) -> World {
        World { threads, ..self }
    }

    /// The same world with another network: one that wraps each socket of this one, say, and encrypts.
    #[must_use]
    pub fn with_net(self, net: Arc<dyn Net>) -> World {
        World { net, ..self }
    }

    /// The network, to be wrapped.
    pub fn net(&self) -> Arc<dyn Net> {
        self.net.clone()
    }

    /// The same world with other files.
    #[must_use]
    pub fn with_files(self, files: Arc<dyn Files>) -> World {
        World { files, ..self }
    }

    /// Time since an origin that is fixed for this boot of the machine. Never goes back; goes on during suspend.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Wall-clock milliseconds since 1970. Only for stamps that people read (history); never for a decision.
    pub fn unix_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    /// Sleeps for a span of this world's time. Cancelling it is harmless.
    pub async fn sleep(&self, span: Duration) {
        self.clock.sleep(span).await;
    }

    /// Sleeps until [`World::now`] reaches `at`; at once if it has.
    pub async fn sleep_until(&self, at: Duration) {
        loop {
            let now = self.now();
            if now >= at {
                return;
            }
            self.clock.sleep(at - now).await;
        }
    }

    /// Runs `future` for at most `limit`; `None` when the time is up (the future is dropped).
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            out = future => Some(out),
            () = self.clock.sleep(limit) => None,
        }
    }

    /// 64 random bits.
    pub fn random_u64(&self) -> u64 {
        self.random.next_u64()
    }

    /// A random duration in `0..=max`, for jitter.
    pub fn jitter(&self, max: Duration) -> Duration {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(if nanos == u64::MAX { self.random_u64() } else { self.random_u64() % (nanos + 1) })
    }

    /// Starts a task that ends when the handle is dropped. `name` appears in logs.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Task::start(name, future)
    }

    /// Runs work that blocks, off the threads that everything else shares. Whoever stops waiting does not stop the work.
    pub async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskEnded> {
        let (done, outcome) = oneshot::channel();
        self.threads.run(Box::new(move || {
            // Whoever waited may have stopped.
            let _ = done.send(panic::catch_unwind(AssertUnwindSafe(work)));
        }));
        match outcome.await {
            Ok(Ok(out)) => Ok(out),
            Ok(Err(payload)) => Err(TaskEnded { name, panic: Some(tasks::panic_text(&*payload)) }),
            Err(_) => Err(TaskEnded { name, panic: None }),
        }
    }

    /// The file system. Its methods block.
    pub fn files(&self) -> Arc<dyn Files> {
        self.files.clone()
    }

    /// Connects to `host:port`, without delay for small writes (`TCP_NODELAY`). Bound it with [`World::timeout`].
    pub async fn connect(&self, address: &str) -> io::Result<Socket> {
        self.net.connect(address).await
    }

    /// Listens on `host:port`; port 0 takes a free one.
    pub async fn bind(&self, address: &str) -> io::Result<Listener> {
        self.net.bind(address).await
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}
