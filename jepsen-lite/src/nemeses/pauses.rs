//! SIGSTOP and SIGCONT: a process that does nothing for a while, and then goes on as if nothing had been.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::kills::{minority_of, moment};
use super::{Fault, holder as present_holder, holder_above};
use crate::run::{JOBMANAGERS, Run};
use crate::stage::Hit;

/// TTL of a JobManager's session unless it is told otherwise.
const JOBMANAGER_TTL: Duration = Duration::from_secs(2);

fn ttl(run: &Run) -> Duration {
    if run.election == JOBMANAGERS { JOBMANAGER_TTL } else { run.sessions.terms.ttl }
}

/// The holder, for longer than its TTL (then somebody follows it while it sleeps) or for less.
pub(super) async fn holder(run: &Run, rng: &mut SmallRng, past_ttl: bool) -> anyhow::Result<()> {
    moment(rng, 20, 300).await;
    let (name, token) = present_holder(run).await?;
    let (role, parts) = if past_ttl { ("holder", 1.3..2.5) } else { ("holder-short", 0.1..0.5) };
    let fault = Fault::new(run, "pause", std::slice::from_ref(&name), role);
    fault.start(run.stage.hit(&name, Hit::Pause)).await?;
    tokio::time::sleep(ttl(run).mul_f64(rng.random_range(parts))).await;
    if past_ttl {
        holder_above(run, token).await?;
        // The successor acts before its predecessor wakes.
        moment(rng, 100, 400).await;
    }
    fault.stop(run.stage.hit(&name, Hit::Resume)).await?;
    moment(rng, 300, 600).await;
    Ok(())
}

pub(super) async fn store_leader(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let name = run.stage.store_leader().await?;
    pause(run, rng, &[name], "store-leader").await
}

pub(super) async fn minority(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let names = minority_of(run, rng);
    pause(run, rng, &names, "minority").await
}

async fn pause(run: &Run, rng: &mut SmallRng, names: &[String], role: &str) -> anyhow::Result<()> {
    let fault = Fault::new(run, "pause", names, role);
    let each = async |hit| {
        for name in names {
            run.stage.hit(name, hit).await?;
        }
        Ok(())
    };
    fault.start(each(Hit::Pause)).await?;
    moment(rng, 600, 3000).await;
    fault.stop(each(Hit::Resume)).await?;
    run.stage.serves().await
}
