//! Disks that are slow, full, or lose their power.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::Fault;
use super::kills::{back, moment};
use crate::run::Run;
use crate::stage::Hit;

/// How long a sync takes on a disk whose power is about to fail.
const SYNC_BEFORE_A_CUT: Duration = Duration::from_millis(200);
/// On such a disk bytes stay in memory until they are synced: `sync_file_range`, which survives no power cut on a disk with a cache of its
/// own, says that it is done and does nothing. A loop device has no cache that a cut could take.
const NOTHING_EARLY: [&str; 2] = ["-e", "inject=sync_file_range:retval=0"];

/// Every fdatasync of a node takes so long: by strace, which attaches and lets go.
pub(super) async fn slow(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let names = run.stage.node_names();
    let name = match rng.random_bool(0.5) {
        true => run.stage.store_leader().await?,
        false => names[rng.random_range(0..names.len())].clone(),
    };
    let fault = Fault::new(run, "slow-disk", std::slice::from_ref(&name), "node");
    let mut slowed = None;
    let delay = rng.random_range(80..300);
    fault
        .start(async {
            slowed = Some(Slowed::attach(run, &name, Duration::from_millis(delay), &[], "fdatasync").await?);
            Ok(())
        })
        .await?;
    moment(rng, 1500, 4000).await;
    let slowed = slowed.context("it is in force")?;
    fault.stop(slowed.let_go()).await?;
    run.stage.serves().await
}

/// A node whose every fdatasync takes so long: strace holds it.
struct Slowed {
    strace: Child,
    _said: JoinSet<()>,
}

impl Slowed {
    /// Returns when strace has said the word: `attached`, or the name of the call when the first one is held up.
    async fn attach(run: &Run, name: &str, delay: Duration, also: &[&str], word: &str) -> anyhow::Result<Slowed> {
        let pid = run.stage.pid(name).await.with_context(|| format!("{name} does not run"))?;
        let delay = format!("inject=fdatasync:delay_enter={}", delay.as_micros());
        let mut strace = Command::new("strace")
            .args(["-f", "-p", &pid.to_string(), "-e", "trace=fdatasync,sync_file_range", "-e", &delay])
            .args(also)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("running strace")?;
        let mut lines = BufReader::new(strace.stderr.take().expect("stderr is piped")).lines();
        let seen = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(word) {
                    return Ok(());
                }
            }
            anyhow::bail!("strace could not attach to {name}")
        };
        tokio::time::timeout(Duration::from_secs(10), seen).await.with_context(|| format!("no {word} was seen"))??;
        // Or it would block when its pipe is full.
        let mut said = JoinSet::new();
        said.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Slowed { strace, _said: said })
    }

    async fn let_go(mut self) -> anyhow::Result<()> {
        if let Some(id) = self.strace.id().and_then(|id| i32::try_from(id).ok()) {
            kill(Pid::from_raw(id), Signal::SIGINT)?;
        }
        tokio::time::timeout(Duration::from_secs(5), self.strace.wait()).await.context("strace did not let go")??;
        Ok(())
    }
}

/// The disk of a node is full for a while.
pub(super) async fn full(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let disks = run.stage.disks()?;
    let names = run.stage.node_names();
    let name = match rng.random_bool(0.5) {
        true => run.stage.store_leader().await?,
        false => names[rng.random_range(0..names.len())].clone(),
    };
    let fault = Fault::new(run, "full-disk", std::slice::from_ref(&name), "node");
    fault.start(async { disks.fill(&name, true) }).await?;
    moment(rng, 2000, 5000).await;
    fault.stop(async { disks.fill(&name, false) }).await?;
    run.stage.serves().await
}

/// The power of one node, or of all at once, fails, and comes back. The disks are slow when it does, and hold in memory what
/// is not synced: what was acknowledged before its sync is then surely lost.
pub(super) async fn power_cut(run: &Run, rng: &mut SmallRng, all: bool) -> anyhow::Result<()> {
    let disks = run.stage.disks()?;
    let names = match all {
        true => run.stage.node_names(),
        false => vec![run.stage.store_leader().await?],
    };
    let mut slowed = Vec::new();
    for name in &names {
        // Not until the first sync: whoever makes none is not to be spared.
        slowed.push(Slowed::attach(run, name, SYNC_BEFORE_A_CUT, &NOTHING_EARLY, "attached").await?);
    }
    moment(rng, 300, 900).await;
    let fault = Fault::new(run, "power-cut", &names, if all { "all" } else { "node" });
    let cut = async {
        // Whoever has no power does nothing any more: it neither answers from what its disk has lost, nor sees the disk fail.
        for name in &names {
            run.stage.hit(name, Hit::Pause).await?;
        }
        for name in &names {
            disks.cut(name)?;
        }
        for name in &names {
            run.stage.hit(name, Hit::Kill).await?;
        }
        Ok(())
    };
    fault.start(cut).await?;
    // They have nothing to hold any more.
    drop(slowed);
    moment(rng, 100, 600).await;
    let on = async {
        for name in &names {
            disks.power_on(name).await?;
            run.stage.start(name).await?;
        }
        Ok(())
    };
    fault.stop(on).await?;
    run.stage.serves().await?;
    for name in &names {
        back(run, name).await?;
    }
    Ok(())
}
