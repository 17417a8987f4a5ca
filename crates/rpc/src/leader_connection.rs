//! Keeps a process registered with whoever leads: follows the election, registers with each leader in turn, and again with the
//! same one when it is told that the registration is worth nothing any more.
//!
//! Keeps true: it is registered with one leader at most, never with an older one than before; a change of leader begins the next
//! registration at once, whatever the last one waited for; a leader that merely is gone costs nothing until there is another.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use palisade_fence::{LeaderSource, Token};
use palisade_planted::{self as planted, Bug};
use palisade_world::{Task, World};
use tokio::sync::{mpsc, watch};

use crate::leader_target::{LeaderTarget, Targets, Vacant};
use crate::registration::{Accepted, Attempt, Decision, RegistrationPolicy, register};
use crate::{Backoff, RpcError, RpcGateway, RpcService};

/// Where a connection stands.
#[derive(Clone, Debug)]
pub enum Connection<G, S> {
    /// No leader has proclaimed an address yet; or a new one is elected and has not.
    NoLeader,
    /// Trying.
    Registering {
        /// With whom.
        target: LeaderTarget,
        /// Attempts that came to nothing.
        failed: u64,
        /// Why the last of them did.
        why: Option<String>,
    },
    /// Registered.
    Registered {
        /// With whom.
        target: LeaderTarget,
        /// Connected under its token.
        gateway: G,
        /// What it said.
        answer: S,
    },
    /// It does not want this process; the next leader may.
    Rejected {
        /// Who.
        target: LeaderTarget,
        /// Its words.
        why: String,
    },
}

impl<G, S> Connection<G, S> {
    /// The leader that it is about.
    pub fn target(&self) -> Option<&LeaderTarget> {
        match self {
            Connection::NoLeader => None,
            Connection::Registering { target, .. }
            | Connection::Registered { target, .. }
            | Connection::Rejected { target, .. } => Some(target),
        }
    }
}

/// A registration that ended sooner than this was no success: the next one waits, so that nobody goes round and round.
const LASTING: Duration = Duration::from_secs(1);

type Registering<S> = Pin<Box<dyn Future<Output = Result<Decision<S>, RpcError>> + Send>>;

/// Keeps a process registered. Dropping it ends that; see [`LeaderConnection::close`].
pub struct LeaderConnection<G, S> {
    state: watch::Receiver<Connection<G, S>>,
    again: mpsc::Sender<Token>,
    task: Task<()>,
}

impl<G, S> LeaderConnection<G, S>
where
    G: RpcGateway,
    S: Clone + Send + Sync + 'static,
{
    /// Begins to follow and to register. `component` is the name under which leaders proclaim the endpoint's address; empty:
    /// the leader's own address. `attempt` makes one registration; it is dropped when there is another leader.
    pub fn start<F>(
        service: &RpcService,
        source: Arc<dyn LeaderSource>,
        component: impl Into<String>,
        policy: RegistrationPolicy,
        world: &World,
        attempt: impl Fn(Attempt<G>) -> F + Send + Sync + 'static,
    ) -> LeaderConnection<G, S>
    where
        F: Future<Output = Result<Decision<S>, RpcError>> + Send + 'static,
    {
        let (sender, state) = watch::channel(Connection::NoLeader);
        // One wish is enough: it names the leadership.
        let (again, wishes) = mpsc::channel(1);
        let keeper = Keeper {
            service: service.clone(),
            policy,
            world: world.clone(),
            attempt: Box::new(move |asked| Box::pin(attempt(asked)) as Registering<S>),
            state: sender,
        };
        let targets = Targets::new(source, component.into(), Vacant::TheLast);
        LeaderConnection { state, again, task: world.spawn("leader connection", keeper.run(targets, wishes)) }
    }

    /// Where it stands, and every change of that; the last state stays when it is closed.
    pub fn state(&self) -> watch::Receiver<Connection<G, S>> {
        self.state.clone()
    }

    /// Registers again with the leader of this token: the registration is worth nothing any more. At once if it had lasted,
    /// else after a pause. `false`: it is not registered with that leader, or closed; nothing is done.
    pub fn reconnect(&self, of: Token) -> bool {
        let registered = matches!(&*self.state.borrow(), Connection::Registered { target, .. } if target.token == of);
        if planted::is(Bug::NotRegisteredAgain) {
            return registered;
        }
        registered && !self.task.is_finished() && self.again.try_send(of).is_ok()
    }

    /// Ends it: no further attempt is made. Says nothing to the leader.
    pub fn close(&self) {
        self.task.abort();
    }
}

/// The task.
struct Keeper<G, S> {
    service: RpcService,
    policy: RegistrationPolicy,
    world: World,
    attempt: Box<dyn Fn(Attempt<G>) -> Registering<S> + Send + Sync>,
    state: watch::Sender<Connection<G, S>>,
}

impl<G, S> Keeper<G, S>
where
    G: RpcGateway,
    S: Clone + Send + Sync + 'static,
{
    async fn run(self, mut targets: Targets, mut wishes: mpsc::Receiver<Token>) {
        let mut target = None;
        loop {
            target = tokio::select! {
                biased;
                next = targets.next(target.as_ref()) => next,
                () = self.keep(target.as_ref(), &mut wishes) => unreachable!("it is kept for ever"),
            };
            self.state.send_replace(match &target {
                Some(target) => Connection::Registering { target: target.clone(), failed: 0, why: None },
                None => Connection::NoLeader,
            });
        }
    }

    /// Registered, or trying to be, with one leader. Never resolves.
    async fn keep(&self, target: Option<&LeaderTarget>, wishes: &mut mpsc::Receiver<Token>) {
        let Some(target) = target else { return std::future::pending().await };
        let mut pauses = Backoff::default();
        loop {
            self.register(target).await;
            let since = self.world.now();
            while wishes.recv().await != Some(target.token) {
                // Of an earlier leader.
                if wishes.is_closed() {
                    return std::future::pending().await;
                }
            }
            let again = Some("it is to register again".to_owned());
            self.state.send_replace(Connection::Registering { target: target.clone(), failed: 0, why: again });
            if self.world.now() - since >= LASTING {
                pauses.reset();
            } else {
                self.world.sleep(pauses.pause(&self.world)).await;
            }
        }
    }

    async fn register(&self, target: &LeaderTarget) {
        let failed = |number, why: String| {
            tracing::debug!(address = %target.address, token = %target.token, attempt = number, why, "registering again");
            let (target, why) = (target.clone(), Some(why));
            self.state.send_replace(Connection::Registering { target, failed: number, why });
        };
        let policy = self.policy.clone();
        let registered = register(&self.service, target, policy, &self.world, &self.attempt, failed).await;
        let target = target.clone();
        self.state.send_replace(match registered {
            Ok(Accepted { gateway, answer }) => Connection::Registered { target, gateway, answer },
            Err(rejected) => Connection::Rejected { target, why: rejected.why },
        });
    }
}
