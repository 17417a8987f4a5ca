//! Stale messages that are real: bytes that a leader wrote while it led, held on the way, and let go after its successor acted.

use std::time::Duration;

use super::kills::replace;
use super::{FOLLOWS_WITHIN, Fault, holder as present_holder, holder_above};
use crate::api::Worker;
use crate::net::faults::Faults;
use crate::run::Run;
use crate::stage::Hit;
use crate::workloads::writer_link;

/// How long a leader writes into a link that holds everything.
const WRITES_FOR: Duration = Duration::from_millis(300);
/// A JobManager writes less: heartbeats, and triggers of checkpoints.
const CALLS_FOR: Duration = Duration::from_millis(2000);
/// What was let go is refused within this, or it was not refused.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn until(what: &str, mut come: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let limit = tokio::time::Instant::now() + FOLLOWS_WITHIN;
    while !come().await {
        anyhow::ensure!(tokio::time::Instant::now() < limit, "did not come about within {FOLLOWS_WITHIN:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Writes of whoever holds the election, to the store.
pub(super) async fn writes(run: &Run) -> anyhow::Result<()> {
    let (name, token) = present_holder(run).await?;
    until("the holder writes", async || run.highest_accepted() >= token).await?;
    let link = writer_link(token);
    let hold = Fault::new(run, "hold", &[format!("{link}->store")], "writes");
    hold.start(run.stage.set_faults(Faults::mute(&link, &run.stage.node_names()))).await?;
    tokio::time::sleep(WRITES_FOR).await;
    let kill = Fault::new(run, "kill", std::slice::from_ref(&name), "holder");
    kill.start(run.stage.hit(&name, Hit::Kill)).await?;
    holder_above(run, token).await?;
    replace(run, &name).await?;
    until("the successor writes", async || run.highest_accepted() > token).await?;
    let release = Fault::new(run, "release-stale", &[format!("{link}->store")], "writes");
    release.start(run.stage.set_faults(Faults::none())).await?;
    // What is refused is answered to the writer, which is in the history.
    tokio::time::sleep(WRITES_FOR).await;
    Ok(())
}

/// Calls of the leading JobManager to its TaskExecutors.
pub(super) async fn calls(run: &Run) -> anyhow::Result<()> {
    let (name, token) = present_holder(run).await?;
    let workers = run.stage.taskexecutor_names();
    // So that there is something to write: it triggers the next checkpoint soon.
    until("the job takes checkpoints under the holder", async || takes_checkpoints(run, token).await).await?;
    let links: Vec<_> = workers.iter().map(|worker| format!("{name}->{worker}")).collect();
    let before = refused(run, &workers).await?;
    let hold = Fault::new(run, "hold", &links, "calls");
    hold.start(run.stage.set_faults(Faults::mute(&name, &workers))).await?;
    tokio::time::sleep(CALLS_FOR).await;
    let kill = Fault::new(run, "kill", std::slice::from_ref(&name), "holder");
    kill.start(run.stage.hit(&name, Hit::Kill)).await?;
    let (_, new) = holder_above(run, token).await?;
    until("every TaskExecutor runs a call of the successor", async || {
        let mut all = true;
        for worker in &workers {
            all &= follows(run, worker, new).await;
        }
        all
    })
    .await?;
    let release = Fault::new(run, "release-stale", &links, "calls");
    run.stage.set_faults(Faults::none()).await?;
    let limit = tokio::time::Instant::now() + ARRIVES_WITHIN;
    let mut count = 0;
    while count == 0 && tokio::time::Instant::now() < limit {
        tokio::time::sleep(Duration::from_millis(20)).await;
        count = refused(run, &workers).await?.saturating_sub(before);
    }
    if count == 0 {
        for worker in &workers {
            let counters = Worker::at(&run.stage.worker_address(worker).await?)?.counters().await?;
            run.note(format!("{worker} had counted: {}", counters.join(", ")));
        }
    }
    match count {
        0 => release.came_to_nothing("no receiver counted a refusal"),
        _ => release.start(async { Ok(()) }).await?,
    }
    run.note(format!("of the calls that {name} wrote under token {token}, {count} were refused as stale"));
    replace(run, &name).await
}

/// Whether a job runs under this token and has completed a checkpoint.
async fn takes_checkpoints(run: &Run, token: u64) -> bool {
    let Ok(said) = run.stage.palisade(&["job", "list"]).await else { return false };
    let document: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    let jobs = document["jobs"].as_array().cloned().unwrap_or_default();
    jobs.iter().any(|job| {
        job["token"].as_u64() == Some(token)
            && job["state"] == "running"
            && job["completed_checkpoints"].as_u64() > Some(0)
    })
}

pub(super) async fn follows(run: &Run, worker: &str, token: u64) -> bool {
    let Ok(address) = run.stage.worker_address(worker).await else { return false };
    let Ok(worker) = Worker::at(&address) else { return false };
    matches!(worker.call(run.election, token).await, Ok(crate::api::Called::Ran))
}

/// What the TaskExecutors refused as stale of this election since they started.
async fn refused(run: &Run, workers: &[String]) -> anyhow::Result<u64> {
    let mut count = 0;
    for name in workers {
        let worker = Worker::at(&run.stage.worker_address(name).await?)?;
        count += worker.counter("rpc_stale", "election=jobmanager").await?;
    }
    Ok(count)
}
