//! What can be run. One scenario per file.

mod kill_holder;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use jepsen_lite::checkers::{self, RunInfo};
use jepsen_lite::clock::RunClock;
use jepsen_lite::history::{self, Record, Recorder, f};
use jepsen_lite::verdict::Finding;

use crate::processes::{Launcher, run_folder};

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
    runtime.block_on(async {
        let version = launcher.check_commit().await?;
        let (gates, checkers) = kill_holder::asks_for(span);
        let info = RunInfo {
            scenario: scenario.name.to_owned(),
            seed,
            for_s: span.as_secs(),
            target: "local".to_owned(),
            palisade: version,
            commit: env!("JEPSEN_LITE_COMMIT").to_owned(),
            started_unix_ms: unix_ms(),
            gates,
            checkers,
        };
        recorder.record(info.record());
        kill_holder::run(&launcher, &recorder, seed, span).await
    })?;
    recorder.record(Record::seen("harness", f::END));
    recorder.finish().context("keeping the history")?;
    // What is judged is what is in the file.
    Ok(checkers::check(&history::read(&history_file)?))
}

fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
