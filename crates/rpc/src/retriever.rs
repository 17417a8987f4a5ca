//! Follows an election and always holds the gateway of the present leader. One task owns the search; whoever wants the gateway
//! looks or waits, and nobody is called back.
//!
//! Keeps true: it never gives the gateway of an older leadership than it gave before; while nobody leads it gives none.

use std::sync::Arc;
use std::time::Duration;

use palisade_fence::LeaderSource;
use palisade_world::{Task, World};
use tokio::sync::{Notify, watch};

use crate::leader_target::{LeaderTarget, Targets, Vacant};
use crate::{Backoff, Outcome, RpcError, RpcGateway, RpcService};

/// The gateway of a leader.
#[derive(Clone, Debug)]
pub struct Led<G> {
    /// Connected, under the leader's token.
    pub gateway: G,
    /// Whose it is.
    pub target: LeaderTarget,
}

/// What a retriever knows.
#[derive(Clone, Debug)]
pub enum Found<G> {
    /// Nobody leads, or the leader has not proclaimed its address, or the election has not been heard of yet.
    Nobody,
    /// The leader is known and not connected yet.
    Connecting {
        /// Whom.
        target: LeaderTarget,
        /// Why the last attempt failed, if one has.
        why: Option<String>,
    },
    /// The leader is connected.
    Leader(Led<G>),
}

/// Follows an election for one component of its leaders. Cheap to clone; the search ends with the last clone.
pub struct LeaderRetriever<G> {
    shared: Arc<Shared<G>>,
    world: World,
    _task: Arc<Task<()>>,
}

struct Shared<G> {
    found: watch::Sender<Found<G>>,
    /// Somebody wants the gateway: try again now.
    wanted: Notify,
}

impl<G> Clone for LeaderRetriever<G> {
    fn clone(&self) -> Self {
        LeaderRetriever { shared: self.shared.clone(), world: self.world.clone(), _task: self._task.clone() }
    }
}

/// Nobody answered, or who answered said no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskLeaderError {
    /// An answer, or an error after which the caller does not want to ask again; see [`RpcError::outcome`].
    #[error(transparent)]
    Answered(RpcError),
    /// No leader answered in time. If the caller allowed to ask again after unknown outcomes, the outcome is unknown; else no
    /// attempt was handled.
    #[error("no leader answered within {limit:?}: {why}")]
    Nobody {
        /// The time limit.
        limit: Duration,
        /// What was tried last.
        why: String,
    },
}

/// For requests that must not take effect twice: asks again only after what surely was not handled.
pub fn if_not_handled(error: &RpcError) -> bool {
    error.outcome() == Outcome::NotHandled && may_end_well(error)
}

/// For requests that may take effect twice: asks again also after an unknown outcome.
pub fn if_idempotent(error: &RpcError) -> bool {
    error.outcome() != Outcome::Handled && may_end_well(error)
}

/// Whether another leader, or the same one later, may answer otherwise.
fn may_end_well(error: &RpcError) -> bool {
    !matches!(
        error,
        RpcError::TooLarge { .. } | RpcError::NoSuchMethod { .. } | RpcError::Invalid { .. } | RpcError::NoToken(_)
    )
}

impl<G: RpcGateway> LeaderRetriever<G> {
    /// Begins to follow. `component` is the name under which leaders proclaim the endpoint's address; empty: the leader's own
    /// address.
    pub fn start(
        service: &RpcService,
        source: Arc<dyn LeaderSource>,
        component: impl Into<String>,
        world: &World,
    ) -> LeaderRetriever<G> {
        let shared = Arc::new(Shared { found: watch::Sender::new(Found::Nobody), wanted: Notify::new() });
        let search = Search { service: service.clone(), shared: shared.clone(), world: world.clone() };
        let targets = Targets::new(source, component.into(), Vacant::Nobody);
        let task = Arc::new(world.spawn("leader retriever", search.run(targets)));
        LeaderRetriever { shared, world: world.clone(), _task: task }
    }

    /// What is known now.
    pub fn found(&self) -> Found<G> {
        self.shared.found.borrow().clone()
    }

    /// The present leader's gateway, if it is connected.
    pub fn current(&self) -> Option<Led<G>> {
        match &*self.shared.found.borrow() {
            Found::Leader(led) => Some(led.clone()),
            Found::Nobody | Found::Connecting { .. } => None,
        }
    }

    /// The present leader's gateway, as soon as there is one. Whoever waits makes a pausing search try at once. Cancelling it
    /// is harmless.
    pub async fn gateway(&self) -> Led<G> {
        self.after(None).await
    }

    /// The gateway of a leader other than `than`, as soon as there is one.
    pub async fn other_than(&self, than: &LeaderTarget) -> Led<G> {
        self.after(Some(than)).await
    }

    async fn after(&self, than: Option<&LeaderTarget>) -> Led<G> {
        if matches!(&*self.shared.found.borrow(), Found::Connecting { .. }) {
            self.shared.wanted.notify_one();
        }
        let mut found = self.shared.found.subscribe();
        let wanted = |found: &Found<G>| matches!(found, Found::Leader(led) if Some(&led.target) != than);
        let found = found.wait_for(wanted).await.expect("the search holds the sender, and we hold the search").clone();
        match found {
            Found::Leader(led) => led,
            Found::Nobody | Found::Connecting { .. } => unreachable!("it was waited for"),
        }
    }

    /// Asks the leader, and the next one if it is replaced, until `limit`: again at once after a change of leader, else with a
    /// back-off. `again` says after which errors; see [`if_not_handled`] and [`if_idempotent`]. If it allows to ask again
    /// after [`RpcError::Cancelled`], an attempt is given up as soon as there is another leader.
    pub async fn ask<R, F>(
        &self,
        limit: Duration,
        call: impl Fn(G) -> F,
        again: impl Fn(&RpcError) -> bool,
    ) -> Result<R, AskLeaderError>
    where
        F: Future<Output = Result<R, RpcError>>,
    {
        let until = self.world.now() + limit;
        let mut pauses = Backoff::default();
        let mut why = "nobody leads".to_owned();
        loop {
            let left = until.saturating_sub(self.world.now());
            let Some(led) = self.world.timeout(left, self.gateway()).await else {
                if let Found::Connecting { why: Some(failed), .. } = self.found() {
                    why = failed;
                }
                return Err(AskLeaderError::Nobody { limit, why });
            };
            let left = until.saturating_sub(self.world.now());
            let asked = tokio::select! {
                biased;
                asked = self.world.timeout(left, call(led.gateway.clone())) => asked,
                _ = self.other_than(&led.target), if again(&RpcError::Cancelled) => continue,
            };
            match asked {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) if again(&error) => why = error.to_string(),
                Some(Err(error)) => return Err(AskLeaderError::Answered(error)),
                None => return Err(AskLeaderError::Answered(RpcError::TimedOut { limit })),
            }
            let pause = pauses.pause(&self.world).min(until.saturating_sub(self.world.now()));
            let _ = self.world.timeout(pause, self.other_than(&led.target)).await;
        }
    }
}

impl<G> std::fmt::Debug for LeaderRetriever<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.shared.found.borrow() {
            Found::Nobody => f.write_str("LeaderRetriever(nobody)"),
            Found::Connecting { target, .. } => write!(f, "LeaderRetriever(connecting {target:?})"),
            Found::Leader(led) => write!(f, "LeaderRetriever({:?})", led.target),
        }
    }
}

/// The task.
struct Search<G> {
    service: RpcService,
    shared: Arc<Shared<G>>,
    world: World,
}

impl<G: RpcGateway> Search<G> {
    async fn run(self, mut targets: Targets) {
        let mut target = None;
        loop {
            target = tokio::select! {
                biased;
                next = targets.next(target.as_ref()) => next,
                () = self.hold(target.as_ref()) => unreachable!("it is held for ever"),
            };
            self.shared.found.send_replace(match &target {
                Some(target) => Found::Connecting { target: target.clone(), why: None },
                None => Found::Nobody,
            });
        }
    }

    /// Connects, and then holds the gateway: it reconnects by itself. Never resolves.
    async fn hold(&self, target: Option<&LeaderTarget>) {
        let Some(target) = target else { return std::future::pending().await };
        let mut pauses = Backoff::default();
        loop {
            match self.service.connect::<G>(&target.address, target.stamp()).await {
                Ok(gateway) => {
                    tracing::debug!(address = %target.address, token = %target.token, "the leader's gateway is connected");
                    self.shared.found.send_replace(Found::Leader(Led { gateway, target: target.clone() }));
                    return std::future::pending().await;
                }
                Err(error) => {
                    let (target, why) = (target.clone(), Some(error.to_string()));
                    self.shared.found.send_replace(Found::Connecting { target, why });
                }
            }
            let pause = pauses.pause(&self.world);
            let _ = self.world.timeout(pause, self.shared.wanted.notified()).await;
        }
    }
}
