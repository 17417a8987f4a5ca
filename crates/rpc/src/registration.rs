//! Registers with one leader until it answers: connects, asks, and tries again after what may end well later. It decides nothing
//! about who leads; [`crate::LeaderConnection`] does, and ends this when there is another leader.

use std::time::Duration;

use palisade_world::World;

use crate::leader_target::LeaderTarget;
use crate::{Backoff, RpcError, RpcGateway, RpcService};

/// What a leader says to a registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision<S> {
    /// Welcome.
    Accepted(S),
    /// Not now: it is asked again after a pause.
    Refused(String),
    /// Never: it is not asked again.
    Rejected(String),
}

/// A leader does not want this process, and will not.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the leader rejects the registration: {why}")]
pub struct Rejected {
    /// Its words.
    pub why: String,
}

/// How patiently is registered.
#[derive(Clone, Debug)]
pub struct RegistrationPolicy {
    /// How long the first attempt may take.
    pub first_limit: Duration,
    /// An attempt that times out is repeated at once with twice its limit, up to this.
    pub most_limit: Duration,
    /// Pauses after refusals and errors. A timeout is pause enough.
    pub pauses: Backoff,
}

impl Default for RegistrationPolicy {
    /// Attempts of 2 s to 10 s, pauses of 10 ms to 1 s.
    fn default() -> RegistrationPolicy {
        RegistrationPolicy {
            first_limit: Duration::from_secs(2),
            most_limit: Duration::from_secs(10),
            pauses: Backoff::default(),
        }
    }
}

/// One attempt: what an attempt of the user's is given.
#[derive(Clone, Debug)]
pub struct Attempt<G> {
    /// Connected to the leader; its asks are limited to what this attempt may take.
    pub gateway: G,
    /// The leader.
    pub target: LeaderTarget,
}

/// A registration that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted<G, S> {
    /// To the leader.
    pub gateway: G,
    /// What it said.
    pub answer: S,
}

/// Connects to `target` and registers until the answer is final. `failed` hears of every attempt that came to nothing, with its
/// number from 1. Dropping the future ends it: no further attempt is made.
pub async fn register<G, S, F>(
    service: &RpcService,
    target: &LeaderTarget,
    mut policy: RegistrationPolicy,
    world: &World,
    attempt: impl Fn(Attempt<G>) -> F,
    failed: impl Fn(u64, String),
) -> Result<Accepted<G, S>, Rejected>
where
    G: RpcGateway,
    F: Future<Output = Result<Decision<S>, RpcError>>,
{
    let mut limit = policy.first_limit;
    for number in 1.. {
        let (pause, why) = match once(service, target, limit, world, &attempt).await {
            Once::Answered(gateway, Decision::Accepted(answer)) => return Ok(Accepted { gateway, answer }),
            Once::Answered(_, Decision::Rejected(why)) => return Err(Rejected { why }),
            Once::Answered(_, Decision::Refused(why)) => (Pause::Grow, why),
            Once::TimedOut(limit) => (Pause::None, format!("no answer within {limit:?}")),
            Once::Failed(why) => (Pause::Grow, why),
        };
        failed(number, why);
        match pause {
            // It waited already; the next attempt waits longer.
            Pause::None => limit = (limit * 2).min(policy.most_limit),
            Pause::Grow => {
                limit = policy.first_limit;
                world.sleep(policy.pauses.pause(world)).await;
            }
        }
    }
    unreachable!("there are more numbers than attempts")
}

enum Pause {
    None,
    Grow,
}

enum Once<G, S> {
    Answered(G, Decision<S>),
    TimedOut(Duration),
    Failed(String),
}

async fn once<G, S, F>(
    service: &RpcService,
    target: &LeaderTarget,
    limit: Duration,
    world: &World,
    attempt: &impl Fn(Attempt<G>) -> F,
) -> Once<G, S>
where
    G: RpcGateway,
    F: Future<Output = Result<Decision<S>, RpcError>>,
{
    let gateway = match service.connect::<G>(&target.address, target.stamp()).await {
        Ok(gateway) => gateway,
        Err(error) => return Once::Failed(error.to_string()),
    };
    let asked = Attempt { gateway: G::from_raw(gateway.raw().within(limit)), target: target.clone() };
    match world.timeout(limit, attempt(asked)).await {
        Some(Ok(decision)) => Once::Answered(gateway, decision),
        None | Some(Err(RpcError::TimedOut { .. })) => Once::TimedOut(limit),
        Some(Err(error)) => Once::Failed(error.to_string()),
    }
}
