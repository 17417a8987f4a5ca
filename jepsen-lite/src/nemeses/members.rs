//! What administrators do: leaderships of elections and of the store handed over, nodes that join and leave.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Fault, holder as present_holder, holder_above};
use crate::api::Outcome;
use crate::run::Run;

/// How often a transfer is tried that other faults come in the way of.
const TRANSFERS: usize = 8;

/// Hands the election to a candidate that waits.
pub(super) async fn transfer_holder(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    for _ in 0..TRANSFERS {
        if try_transfer(run, rng).await? {
            break;
        }
    }
    Ok(())
}

/// Whether it was handed over.
async fn try_transfer(run: &Run, rng: &mut SmallRng) -> anyhow::Result<bool> {
    let (name, token) = present_holder(run).await?;
    let mut waiting = run.stage.candidates(run.election).await;
    waiting.retain(|candidate| *candidate != name);
    anyhow::ensure!(!waiting.is_empty(), "nobody waits behind {name}");
    let to = waiting.swap_remove(rng.random_range(0..waiting.len()));
    let fault = Fault::new(run, "transfer", &[name, to.clone()], "holder");
    let mut api = run.stage.api(0)?;
    let transfer = async {
        match api.transfer(run.election, token, &to).await {
            Outcome::Ok(_) => Ok(()),
            Outcome::Fail(detail) => anyhow::bail!("refused: {}", crate::api::kind(&detail)),
            Outcome::Info(why) => anyhow::bail!("unknown: {why}"),
        }
    };
    // Somebody may have been killed by another nemesis at this moment: then it is not known what became of it.
    let done = fault.start(transfer).await.is_ok();
    if done {
        holder_above(run, token).await?;
    }
    tokio::time::sleep(Duration::from_millis(rng.random_range(100..500))).await;
    Ok(done)
}

/// Has another node lead the store, by the command line.
pub(super) async fn transfer_store_leader(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let leads = run.stage.store_leader().await?;
    let others: Vec<_> = run.stage.node_names().into_iter().filter(|name| *name != leads).collect();
    let to = &others[rng.random_range(0..others.len())];
    let id = to.trim_start_matches("node-");
    let fault = Fault::new(run, "transfer-store-leader", &[leads.clone(), to.clone()], "store-leader");
    let transfer = async { run.stage.palisade(&["cluster", "transfer-leader", id]).await.map(|_| ()) };
    // A store leader that changes at this moment by itself refuses; the gate counts those that were done.
    if let Err(error) = fault.start(transfer).await {
        run.note(format!("{error:#}"));
    }
    run.stage.serves().await
}

/// A node joins as a learner, votes, and is removed again.
pub(super) async fn change(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    // Ids rise, and none is used again.
    let id = usize::try_from(run.instance())? + 100;
    let name = crate::targets::node_name(id);
    let fault = Fault::new(run, "membership", std::slice::from_ref(&name), "node");
    fault.start(run.stage.grow(id)).await?;
    super::kills::moment(rng, 500, 2500).await;
    fault.stop(run.stage.shrink(id)).await?;
    run.stage.serves().await
}
