//! Clocks of one node that are wrong: the one on the wall by any amount, the others by no more than is promised to be safe.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::Fault;
use super::kills::moment;
use crate::clock_control::Bend;
use crate::run::Run;

/// Too fast or too slow, in millionths: a session's margin is one hundredth.
const RATE_PPM: i64 = 5000;
/// Between two steps of a wall clock that is too fast.
const FAST_STEP: Duration = Duration::from_millis(5);

fn one(run: &Run, rng: &mut SmallRng) -> String {
    let names = run.stage.node_names();
    names[rng.random_range(0..names.len())].clone()
}

/// The wall clock of a node, or of the node that leads the store, jumps to and fro.
pub(super) async fn wall(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let name = if rng.random_bool(0.6) { run.stage.store_leader().await? } else { one(run, rng) };
    let clocks = run.stage.clocks()?;
    let fault = Fault::new(run, "clock", std::slice::from_ref(&name), "wall-clock");
    let jump = |rng: &mut SmallRng| {
        let size = 10_i64.pow(rng.random_range(2..8)) * rng.random_range(1..10);
        if rng.random_bool(0.5) { size } else { -size }
    };
    let first = jump(rng);
    fault.start(async { clocks.bend(&name, Bend::default().wall(first)) }).await?;
    for _ in 0..rng.random_range(2..6) {
        moment(rng, 100, 600).await;
        clocks.bend(&name, Bend::default().wall(jump(rng)))?;
    }
    moment(rng, 500, 1500).await;
    fault.stop(async { clocks.bend(&name, Bend::default()) }).await
}

/// The wall clock of the node that leads the store runs twice as fast, in steps so small that they do not look as if the node had stood
/// still: whoever counts time on it has half of what was promised.
pub(super) async fn fast_wall(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let name = run.stage.store_leader().await?;
    let clocks = run.stage.clocks()?;
    let fault = Fault::new(run, "clock", std::slice::from_ref(&name), "wall-clock-fast");
    let began = tokio::time::Instant::now();
    let span = Duration::from_millis(rng.random_range(4000..6000));
    fault.start(async { clocks.bend(&name, Bend::default().wall(1)) }).await?;
    let mut steps = tokio::time::interval(FAST_STEP);
    while began.elapsed() < span {
        steps.tick().await;
        let ahead_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        clocks.bend(&name, Bend::default().wall(ahead_ms))?;
    }
    fault.stop(async { clocks.bend(&name, Bend::default()) }).await
}

/// The other clocks of a node run at another rate, for long enough that it would be seen.
pub(super) async fn rate(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let name = run.stage.store_leader().await?;
    let clocks = run.stage.clocks()?;
    let ppm = if rng.random_bool(0.5) { RATE_PPM } else { -RATE_PPM };
    let fault = Fault::new(run, "clock", std::slice::from_ref(&name), "clock-rate");
    let bent = Bend::default().rate(ppm);
    fault.start(async { clocks.bend(&name, bent) }).await?;
    tokio::time::sleep(Duration::from_secs(rng.random_range(3..6))).await;
    // The clock keeps what it has gained or lost: it never goes back.
    fault.stop(async { clocks.bend(&name, bent.rate(0)) }).await
}
