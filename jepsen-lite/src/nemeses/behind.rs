//! A worker that comes back where the news has not arrived: what it knew before it died is all that keeps it from following somebody
//! who was replaced.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::kills::{moment, replace};
use super::stale::{follows, until};
use super::{Fault, holder as present_holder, holder_above};
use crate::net::faults::Faults;
use crate::run::Run;
use crate::stage::Hit;

/// A node is cut off from the others; the holder is killed and followed, and a TaskExecutor runs a call of the new one; then the
/// TaskExecutor is killed, and comes back where it sees only the node that has heard nothing of it.
pub(super) async fn restart(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let leader = run.stage.store_leader().await?;
    let mut others: Vec<String> = run.stage.node_names().into_iter().filter(|name| *name != leader).collect();
    let behind = others.swap_remove(rng.random_range(0..others.len()));
    others.push(leader);
    let workers = run.stage.taskexecutor_names();
    let worker = &workers[rng.random_range(0..workers.len())];
    let (holder, token) = present_holder(run).await?;
    until("the TaskExecutor runs a call of the holder", async || follows(run, worker, token).await).await?;
    let partition = Fault::new(run, "partition", std::slice::from_ref(&behind), "behind");
    let apart = Faults::isolate(&behind, &others);
    partition.start(run.stage.set_faults(apart.clone())).await?;
    let kill = Fault::new(run, "kill", std::slice::from_ref(&holder), "holder");
    kill.start(run.stage.hit(&holder, Hit::Kill)).await?;
    let (_, new) = holder_above(run, token).await?;
    until("the TaskExecutor runs a call of the successor", async || follows(run, worker, new).await).await?;
    let kill = Fault::new(run, "kill", std::slice::from_ref(worker), "taskexecutor-behind");
    kill.start(run.stage.hit(worker, Hit::Kill)).await?;
    run.stage.set_faults(apart.and(Faults::isolate(worker, &others))).await?;
    run.stage.start(worker).await?;
    // Calls under the old token reach it meanwhile.
    moment(rng, 2500, 4000).await;
    partition.stop(run.stage.set_faults(Faults::none())).await?;
    replace(run, &holder).await?;
    run.stage.serves().await
}
