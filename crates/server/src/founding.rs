//! Gives a new cluster its name. The first thing that a store leader does in a cluster without one; refused by the state
//! machine ever after, so that it does not matter how often it is tried.

use std::time::Duration;

use palisade_coord_core::{Command, Op};
use palisade_fence::ClusterId;
use palisade_replica::Replica;
use palisade_world::{Task, World};

use crate::machine::CoordMachine;
use crate::proposer::Proposer;

/// Before it is tried again by the same store leader.
const AGAIN: Duration = Duration::from_millis(100);

/// Starts the task; it ends when the cluster has a name.
pub(crate) fn start(
    replica: &Replica<CoordMachine>,
    machine: &CoordMachine,
    proposer: Proposer,
    world: &World,
) -> Task<()> {
    let (mut status, mut founded, world_) = (replica.status(), machine.founded(), world.clone());
    world.spawn("founding", async move {
        let world = world_;
        loop {
            let leadership = tokio::select! {
                biased; // once there is a name, nothing more is proposed
                _ = founded.wait_for(Option::is_some) => return,
                lead = status.wait_for(|now| now.leadership.is_some()) => match lead {
                    Ok(now) => now.leadership,
                    Err(_) => return,
                },
            };
            let Some(leadership) = leadership else { continue };
            let cluster = ClusterId(world.random_u64().max(1)); // 0 means "none" on the wire
            let command = Command::new(world.unix_ms(), Op::Found { cluster });
            match proposer.submit_as(leadership, command).await {
                Ok(outcome) if outcome.reply.is_ok() => tracing::info!(%cluster, "the cluster is founded"),
                Ok(_) => {} // somebody was first
                Err(error) => {
                    tracing::warn!(%error, "the cluster could not be founded yet");
                    world.sleep(AGAIN).await;
                }
            }
        }
    })
}
