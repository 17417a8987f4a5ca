//! Links that are cut, slow or lossy.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::kills::moment;
use super::{Fault, Nemesis, holder as present_holder, holder_above};
use crate::net::faults::{Fault as LinkFault, Faults};
use crate::run::Run;
use crate::targets::Target;

/// Cuts links between nodes for some seconds.
pub(super) async fn partition(run: &Run, rng: &mut SmallRng, nemesis: Nemesis) -> anyhow::Result<()> {
    let mut names = run.stage.node_names();
    let one = match nemesis {
        Nemesis::PartitionLeader => run.stage.store_leader().await?,
        _ => names[rng.random_range(0..names.len())].clone(),
    };
    // Who is in which half, in the middle, or next to whom is drawn.
    for at in (1..names.len()).rev() {
        names.swap(at, rng.random_range(0..=at));
    }
    if run.stage.target() == Target::Compose {
        return cut_off(run, rng, &one, nemesis).await;
    }
    let faults = match nemesis {
        Nemesis::PartitionHalves => Faults::halves(&names),
        Nemesis::PartitionRing => Faults::ring(&names),
        Nemesis::PartitionBridge => Faults::bridge(&names),
        Nemesis::PartitionOneWay if rng.random_bool(0.5) => Faults::mute(&one, &names),
        Nemesis::PartitionOneWay => Faults::deafen(&one, &names),
        _ => Faults::isolate(&one, &names),
    };
    anyhow::ensure!(faults.each().count() > 0, "{} cuts nothing among {} nodes", nemesis.name(), names.len());
    let role = nemesis.name().trim_start_matches("partition-");
    let fault = Fault::new(run, "partition", &links(&faults), role);
    impose(run, rng, &fault, faults, 1000..4000).await
}

/// The links of faults, as the history calls them.
fn links(faults: &Faults) -> Vec<String> {
    faults.each().map(|(from, to, _)| format!("{from}->{to}")).collect()
}

async fn impose(
    run: &Run,
    rng: &mut SmallRng,
    fault: &Fault<'_>,
    faults: Faults,
    span: std::ops::Range<u64>,
) -> anyhow::Result<()> {
    fault.start(run.stage.set_faults(faults)).await?;
    moment(rng, span.start, span.end).await;
    fault.stop(run.stage.set_faults(Faults::none())).await?;
    run.stage.serves().await
}

/// A container is off the network altogether.
async fn cut_off(run: &Run, rng: &mut SmallRng, name: &str, nemesis: Nemesis) -> anyhow::Result<()> {
    let role = nemesis.name().trim_start_matches("partition-");
    let fault = Fault::new(run, "partition", &[name.to_owned()], role);
    fault.start(run.stage.cut_off(name, true)).await?;
    moment(rng, 1000, 4000).await;
    fault.stop(run.stage.cut_off(name, false)).await?;
    run.stage.serves().await
}

/// The holder sees no node, for longer than its TTL.
pub(super) async fn isolate_holder(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    moment(rng, 20, 300).await;
    let (name, token) = present_holder(run).await?;
    let compose = run.stage.target() == Target::Compose;
    let faults = Faults::isolate(&name, &run.stage.node_names());
    let targets = if compose { vec![name.clone()] } else { links(&faults) };
    let fault = Fault::new(run, "partition", &targets, "holder");
    let cut = async { if compose { run.stage.cut_off(&name, true).await } else { run.stage.set_faults(faults).await } };
    fault.start(cut).await?;
    holder_above(run, token).await?;
    moment(rng, 300, 1000).await;
    let mend = async {
        if compose { run.stage.cut_off(&name, false).await } else { run.stage.set_faults(Faults::none()).await }
    };
    fault.stop(mend).await
}

pub(super) async fn slow(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let by = Duration::from_millis(rng.random_range(10..60));
    let faults = Faults::everywhere(&run.stage.node_names(), LinkFault::Slow(by));
    let fault = Fault::new(run, "slow", &links(&faults), "links");
    impose(run, rng, &fault, faults, 2000..5000).await
}

pub(super) async fn lossy(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let faults = Faults::everywhere(&run.stage.node_names(), LinkFault::Lossy(rng.random_range(2..15)));
    let fault = Fault::new(run, "lossy", &links(&faults), "links");
    impose(run, rng, &fault, faults, 2000..5000).await
}
