//! What can be run. One scenario per file.

mod kill_holder;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::checkers;
use crate::clock::RunClock;
use crate::history::Recorder;
use crate::processes::{Launcher, run_folder};
use crate::verdict::Finding;

/// One line of `jepsen-lite list`.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
}

/// All scenarios.
pub(crate) const ALL: &[Scenario] = &[Scenario {
    name: kill_holder::NAME,
    what: "kill -9 the election's holder again and again, while every holder writes a fenced register, also after it was replaced",
}];

/// Runs one scenario on this machine and checks its history.
pub(crate) fn run(
    scenario: &Scenario,
    seed: u64,
    span: Duration,
    palisade: &Path,
    store: &Path,
) -> anyhow::Result<Vec<Finding>> {
    let palisade = palisade.canonicalize().with_context(|| format!("--palisade {}", palisade.display()))?;
    let dir = run_folder(store, scenario.name, seed)?;
    let launcher = Launcher { palisade, dir: dir.clone() };
    let history_file = dir.join("history.jsonl");
    let recorder = Recorder::create(&history_file, RunClock::start())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    eprintln!("jepsen-lite: {} with seed {seed} for {span:?}, history in {}", scenario.name, history_file.display());
    let expected = runtime.block_on(async {
        launcher.check_commit().await?;
        kill_holder::run(&launcher, &recorder, seed, span).await
    })?;
    Ok(checkers::check(&recorder.finish()?, &expected))
}
