//! A node without Raft: commands are applied by the real state machine, and every step of theirs can be held up.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use palisade_coord_core::{Command, Op, Outcome, Refusal, Reply, Seq, State, apply};
use palisade_fence::ClusterId;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, StoreLeader};
use palisade_wire::status::{not_applied, unknown};
use palisade_world::{Clock, SeededRandom, TcpNet, World};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, watch};
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use super::super::backend::{SessionBackend, StoreView};
use crate::hub::{Applied, Hub, Subscription};

/// Where something is held up. Whoever waits passes in the order of arrival.
#[derive(Default)]
pub(super) struct Gate {
    lock: Arc<RwLock<()>>,
    shut: Mutex<Option<OwnedRwLockWriteGuard<()>>>,
}

impl Gate {
    pub(super) fn shut(&self) {
        let shut = Arc::clone(&self.lock).try_write_owned().expect("nobody stays in a gate");
        *self.shut.lock().unwrap() = Some(shut);
    }

    pub(super) fn open(&self) {
        self.shut.lock().unwrap().take();
    }

    async fn pass(&self) {
        let _ = self.lock.read().await;
    }
}

/// What becomes of the next commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Commands {
    Applied,
    /// Applied, and nobody is told.
    AnswerLost,
    /// There is no room.
    Overloaded,
}

pub(super) struct Fake {
    state: Mutex<State>,
    pub(super) hub: Arc<Hub>,
    view: watch::Sender<StoreView<u64>>,
    /// Whether quorum rounds are answered.
    pub(super) rounds: Gate,
    /// Whether commands are applied.
    pub(super) applying: Gate,
    /// Whether outcomes are handed out.
    pub(super) answering: Gate,
    commands: Mutex<Commands>,
    /// The last command applied.
    applied: watch::Sender<Seq>,
}

impl Fake {
    pub(super) fn founded() -> Arc<Fake> {
        let mut state = State::new();
        let found = Command::new(0, Op::Found { cluster: ClusterId(7) });
        assert!(apply(&mut state, &found).reply.is_ok());
        Arc::new(Fake {
            state: Mutex::new(state),
            hub: Hub::new(),
            view: watch::Sender::new(StoreView { mine: None, store_leader: None }),
            rounds: Gate::default(),
            applying: Gate::default(),
            answering: Gate::default(),
            commands: Mutex::new(Commands::Applied),
            applied: watch::Sender::new(Seq::default()),
        })
    }

    pub(super) fn lead(&self, leadership: u64) {
        self.view.send_replace(StoreView { mine: Some(leadership), store_leader: None });
    }

    pub(super) fn lose(&self, to: Option<&str>) {
        let store_leader = to.map(|address| StoreLeader { node_id: 2, address: address.to_owned() });
        self.view.send_replace(StoreView { mine: None, store_leader });
    }

    pub(super) fn set(&self, commands: Commands) {
        *self.commands.lock().unwrap() = commands;
    }

    pub(super) fn read_state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap())
    }

    /// Waits until the state is so.
    pub(super) async fn until(&self, so: impl Fn(&State) -> bool) {
        let mut applied = self.applied.subscribe();
        applied.wait_for(|_| self.read_state(&so)).await.expect("the fake stays");
    }

    /// Applies a command, whoever asks, and publishes its events.
    pub(super) fn apply(&self, op: Op) -> (Seq, Result<Reply, Refusal>) {
        let outcome = self.apply_command(&Command::new(0, op));
        (outcome.seq, outcome.reply)
    }

    fn apply_command(&self, command: &Command) -> Outcome {
        let mut outcome = {
            let mut state = self.state.lock().unwrap();
            apply(&mut state, command)
        };
        let events = std::mem::take(&mut outcome.events);
        if !events.is_empty() {
            let (cluster, generation) = (ClusterId(7), 0);
            let (seq, revision) = (outcome.seq, outcome.revision);
            self.hub.publish(Applied { cluster, generation, seq, revision, events });
        }
        self.applied.send_replace(outcome.seq);
        outcome
    }
}

#[async_trait]
impl SessionBackend for Fake {
    type Leadership = u64;

    fn views(&self) -> BoxStream<'static, StoreView<u64>> {
        WatchStream::new(self.view.subscribe()).boxed()
    }

    async fn confirm(&self) -> Option<u64> {
        self.rounds.pass().await;
        self.view.borrow().mine
    }

    async fn submit(&self, command: Command) -> Result<Outcome, ErrorDetail> {
        let commands = *self.commands.lock().unwrap();
        if commands == Commands::Overloaded {
            return Err(not_applied(Kind::Overloaded, "later"));
        }
        self.applying.pass().await;
        let outcome = self.apply_command(&command);
        if commands == Commands::AnswerLost {
            return Err(unknown(Kind::LostLeadership, "lost"));
        }
        self.answering.pass().await;
        Ok(outcome)
    }

    async fn submit_as(&self, leadership: u64, command: Command) -> Result<Outcome, ErrorDetail> {
        self.applying.pass().await;
        if self.view.borrow().mine != Some(leadership) {
            return Err(not_applied(Kind::NotStoreLeader, "another term"));
        }
        Ok(self.apply_command(&command))
    }

    async fn barrier(&self) -> Result<(), Status> {
        Ok(())
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.read_state(look)
    }

    fn subscribe(&self) -> Subscription {
        self.hub.subscribe()
    }
}

struct PausedClock {
    origin: tokio::time::Instant,
}

#[allow(clippy::disallowed_methods)] // the paused clock of a test is tokio's
fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

impl Clock for PausedClock {
    fn now(&self) -> Duration {
        tokio_now() - self.origin
    }

    fn unix_ms(&self) -> u64 {
        0
    }

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(span))
    }
}

/// A world whose time is tokio's.
pub(crate) fn paused_world() -> World {
    let clock = PausedClock { origin: tokio_now() };
    World::new(Arc::new(clock), Arc::new(SeededRandom::new(1)), Arc::new(TcpNet))
}
