//! One run from its first line to its last: set the stage, let clients and faults loose, heal, converge, one good write and read of
//! everything, strike the stage. The verdict is had from the file that was written, like anybody else would have it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jepsen_lite::checkers::RunInfo;
use jepsen_lite::clock::RunClock;
use jepsen_lite::history::{Record, Recorder, f};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::Outcome;
use crate::clock_control::ClockControl;
use crate::nemeses::Nemesis;
use crate::processes::{Launcher, run_folder, same_commit};
use crate::run::{BESIDE, JOBMANAGERS, NEMESIS, Run, Sessions};
use crate::scenarios::Scenario;
use crate::stage::{SERVES_WITHIN, Setting, Stage};
use crate::targets::{Compose, OwnDisks, Target};
use crate::workloads::{self, Workload};

/// Before the first fault: everybody has begun.
const WARM_UP: Duration = Duration::from_millis(1500);

/// What is asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    pub(crate) span: Duration,
    pub(crate) target: Target,
    pub(crate) palisade: PathBuf,
    pub(crate) store: PathBuf,
    /// A bug that every process is started with.
    pub(crate) planted: Option<String>,
}

/// Runs a scenario; gives the run's folder, which has the history.
pub(crate) fn run(asked: &Asked) -> anyhow::Result<PathBuf> {
    let palisade = &asked.palisade;
    let palisade = palisade.canonicalize().with_context(|| format!("--palisade {}", palisade.display()))?;
    let dir = run_folder(&asked.store, asked.scenario.name, asked.seed)?;
    let launcher = Launcher { palisade, dir: dir.clone(), planted: asked.planted.clone() };
    eprintln!(
        "jepsen-lite: {} with seed {} for {:?}, in {}",
        asked.scenario.name,
        asked.seed,
        asked.span,
        dir.display()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut interrupts = Interrupts::heard()?;
        whole(asked, launcher, &dir, &mut interrupts).await
    });
    // Whatever is still there is killed with its handle.
    runtime.shutdown_timeout(Duration::from_secs(3));
    done.with_context(|| format!("the run folder is {}", dir.display()))?;
    Ok(dir)
}

/// The signals that ask the harness to end: heard from the first moment on, so that none of them ends it while processes, mounts or
/// namespaces that it has made are there.
pub(crate) struct Interrupts {
    signals: Vec<(&'static str, Signal)>,
}

impl Interrupts {
    pub(crate) fn heard() -> anyhow::Result<Interrupts> {
        let kinds = [
            ("SIGINT", SignalKind::interrupt()),
            ("SIGTERM", SignalKind::terminate()),
            ("SIGHUP", SignalKind::hangup()),
        ];
        let hear = |(name, kind)| signal(kind).map(|signal| (name, signal));
        Ok(Interrupts { signals: kinds.map(hear).into_iter().collect::<Result<_, _>>()? })
    }

    /// Comes with the first one, as what the run ends with.
    pub(crate) async fn next(&mut self) -> anyhow::Error {
        let each = self.signals.iter_mut().map(|(name, signal)| {
            Box::pin(async move {
                signal.recv().await;
                anyhow::anyhow!("interrupted by {name}")
            })
        });
        futures_util::future::select_all(each).await.0
    }
}

async fn whole(asked: &Asked, launcher: Launcher, dir: &Path, interrupts: &mut Interrupts) -> anyhow::Result<()> {
    let scenario = &asked.scenario;
    let version = match asked.target {
        Target::Compose => {
            let version = Compose::version().await?;
            same_commit("the image", &version)?;
            version
        }
        _ => launcher.check_commit().await?,
    };
    let recorder = Recorder::create(&dir.join("history.jsonl"), RunClock::start())?;
    recorder.record(info(asked, version).record());
    let input = match scenario.workloads.contains(&Workload::Job) {
        true => Some(workloads::job_input(&dir.join("input"), asked.span, SmallRng::seed_from_u64(asked.seed))?),
        false => None,
    };
    let setting = setting(asked, &launcher, dir)?;
    let stage = tokio::select! {
        stage = Stage::set(setting, launcher, recorder.clone()) => Arc::new(stage?),
        // What had been set goes with its handles.
        interrupted = interrupts.next() => return Err(interrupted),
    };
    let (stop, stopped) = watch::channel(false);
    let sessions = Sessions { terms: scenario.terms, candidates: scenario.candidates };
    let (run, vacancies) = Run::new(Arc::clone(&stage), sessions, asked.seed, scenario.election(), stopped);
    let mut interrupted = None;
    let acted = tokio::select! {
        acted = Box::pin(act(asked, &run, vacancies, input.as_ref(), &stop)) => acted,
        error = interrupts.next() => {
            let told = Err(anyhow::anyhow!("{error}"));
            interrupted = Some(error);
            told
        }
    };
    // Whatever came of it: nobody is left, and what ended by itself is in the history.
    let looked = stage.look_for_the_unexpected().await;
    stage.strike().await?;
    looked?;
    if let Err(error) = acted {
        run.trouble(format!("{error:#}"));
    }
    recorder.record(Record::seen("harness", f::END));
    let lines = recorder.finish()?;
    eprintln!("jepsen-lite: {lines} lines in {}", dir.join("history.jsonl").display());
    interrupted.map_or(Ok(()), Err)
}

fn setting(asked: &Asked, launcher: &Launcher, dir: &Path) -> anyhow::Result<Setting> {
    let scenario = &asked.scenario;
    let disks = match scenario.disks {
        Some(kind) => Some(OwnDisks::new(kind, scenario.shape.nodes, dir.join("disks"))?),
        None => None,
    };
    let bent = scenario
        .all_nemeses()
        .any(|nemesis| matches!(nemesis, Nemesis::WallClock | Nemesis::WallClockFast | Nemesis::ClockRate));
    let clocks = if bent { Some(ClockControl::build(dir, &launcher.palisade)?) } else { None };
    let shape = scenario.shape;
    Ok(Setting { target: asked.target, shape, disks, clocks, input: dir.join("input"), seed: asked.seed })
}

/// Everything between the first line and the last.
async fn act(
    asked: &Asked,
    run: &Run,
    vacancies: tokio::sync::mpsc::Receiver<()>,
    input: Option<&workloads::Input>,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let scenario = &asked.scenario;
    run.phase("warm-up");
    let mut tasks = JoinSet::new();
    let mut vacancies = Some(vacancies);
    for workload in scenario.workloads {
        workloads::start(*workload, run, &mut vacancies, &mut tasks).await?;
    }
    if scenario.candidates > 0 || scenario.workloads.contains(&Workload::Election) {
        workloads::observe(run, crate::run::ELECTION, &mut tasks);
    }
    if scenario.shape.jobmanagers > 0 {
        workloads::observe(run, JOBMANAGERS, &mut tasks);
    }
    let job = match input {
        Some(input) => Some(submit(asked, run, input).await?),
        None => None,
    };
    tokio::time::sleep(WARM_UP).await;
    let until = tokio::time::Instant::now() + SERVES_WITHIN;
    while scenario.candidates > 0 && run.highest_told() == 0 {
        anyhow::ensure!(tokio::time::Instant::now() < until, "no candidate was granted within {SERVES_WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.phase("faults");
    let mut clients = Ok(());
    let tormented = tokio::select! {
        tormented = torment(asked, run) => tormented,
        failed = first_failure(&mut tasks) => {
            clients = Err(failed);
            Ok(())
        }
    };
    run.phase("heal");
    let healed = heal(run).await;
    run.phase("final");
    stop.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        clients = clients.and(ended.context("a client of the harness panicked").and_then(|ended| ended));
    }
    tormented.and(clients)?;
    if let Err(error) = recovered(scenario, run, healed, job.as_ref()).await {
        run.stage.unexpected(format!("it does not serve although the faults have ended: {error:#}"));
    }
    Ok(())
}

/// All faults are over, and nothing else asks for anything: what does not go through now does not go through at all. The bounds are many
/// times what it takes, so that a slow machine is not taken for a cluster that has stopped.
async fn recovered(
    scenario: &Scenario,
    run: &Run,
    healed: anyhow::Result<()>,
    job: Option<&workloads::Job>,
) -> anyhow::Result<()> {
    healed?;
    for workload in scenario.workloads {
        workloads::finish(*workload, run).await?;
    }
    match job {
        Some(job) => workloads::finish_job(run, job).await,
        None => Ok(()),
    }
}

/// A client that fails ends the run; one that is done does not.
async fn first_failure(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    loop {
        match tasks.join_next().await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return error,
            Some(Err(error)) => return anyhow::Error::from(error).context("a client of the harness panicked"),
            None => std::future::pending().await,
        }
    }
}

async fn submit(asked: &Asked, run: &Run, input: &workloads::Input) -> anyhow::Result<workloads::Job> {
    let seen = if asked.target == Target::Compose { Path::new("/input").to_owned() } else { input.folder.clone() };
    let job = workloads::submit_job(run, input, &seen).await?;
    let until = tokio::time::Instant::now() + SERVES_WITHIN;
    while tokio::time::Instant::now() < until {
        let status = workloads::job_status(run, &job).await.unwrap_or_default();
        if status["state"] == "running" && status["records_processed"].as_u64() > Some(0) {
            return Ok(job);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the job did not run within {SERVES_WITHIN:?}")
}

/// Plays the scenario's faults.
async fn torment(asked: &Asked, run: &Run) -> anyhow::Result<()> {
    let scenario = &asked.scenario;
    let end = tokio::time::Instant::now() + asked.span;
    let counted: Vec<_> =
        scenario.counts.iter().flat_map(|(nemesis, count)| std::iter::repeat_n(*nemesis, *count)).collect();
    let rng = || SmallRng::seed_from_u64(asked.seed);
    if !counted.is_empty() {
        return play_each(run, counted, rng(), end).await;
    }
    // Each does one thing at a time, as whoever acts in a history.
    let beside = run.as_nemesis(BESIDE);
    let (one, other) =
        tokio::join!(play(run, scenario.nemeses, rng(), end), play(&beside, scenario.beside, run.rng("beside"), end));
    one.and(other)
}

/// Plays all of them in a drawn order, and again, until the time is over and each was played.
async fn play(run: &Run, nemeses: &[Nemesis], mut rng: SmallRng, end: tokio::time::Instant) -> anyhow::Result<()> {
    let mut bag: Vec<Nemesis> = nemeses.to_vec();
    let mut each_once = false;
    // Each once at least: what never happened was not tested.
    while !nemeses.is_empty() && (!each_once || tokio::time::Instant::now() < end) {
        if bag.is_empty() {
            bag = nemeses.to_vec();
        }
        let nemesis = bag.swap_remove(rng.random_range(0..bag.len()));
        nemesis.play(run, &mut rng).await?;
        each_once |= bag.is_empty();
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..700))).await;
    }
    Ok(())
}

/// Plays each of them once, in a drawn order, with progress.
async fn play_each(
    run: &Run,
    mut left: Vec<Nemesis>,
    mut rng: SmallRng,
    end: tokio::time::Instant,
) -> anyhow::Result<()> {
    let all = left.len();
    while !left.is_empty() && tokio::time::Instant::now() < end {
        let nemesis = left.swap_remove(rng.random_range(0..left.len()));
        nemesis.play(run, &mut rng).await?;
        let done = all - left.len();
        if done.is_multiple_of(50) {
            eprintln!("jepsen-lite: {done} of {all} faults");
        }
    }
    if !left.is_empty() {
        run.note(format!("{} of {all} faults were not played: the time was over", left.len()));
    }
    Ok(())
}

/// All faults are over by now. Every node has caught up with what the cluster had committed at this moment, and serves.
async fn heal(run: &Run) -> anyhow::Result<()> {
    let until = tokio::time::Instant::now() + SERVES_WITHIN;
    run.stage.serves().await?;
    let mut api = run.stage.api(0)?;
    let goal = match api.get("up").await {
        Outcome::Ok((header, _)) => header.seq,
        Outcome::Fail(_) | Outcome::Info(_) => 0,
    };
    for at in 0..run.stage.shape.nodes {
        loop {
            let mut api = run.stage.api(at)?;
            let status = api.status().await.ok();
            let seq = status.as_ref().and_then(|status| status.header).map_or(0, |header| header.seq);
            if status.is_some_and(|status| status.healthy) && seq >= goal {
                break;
            }
            anyhow::ensure!(
                tokio::time::Instant::now() < until,
                "node-{} had not caught up within {SERVES_WITHIN:?} after the faults had ended: seq {seq} of {goal}",
                at + 1
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// The first line.
fn info(asked: &Asked, version: String) -> RunInfo {
    let scenario = &asked.scenario;
    let mut gates: Vec<Value> = scenario.expects.iter().map(gate).collect();
    let mut seen = Vec::new();
    for nemesis in scenario.all_nemeses().filter(|_| scenario.counts.is_empty()) {
        if !seen.contains(&nemesis) {
            seen.push(nemesis);
            let beside = !scenario.nemeses.contains(&nemesis);
            gates.extend(nemesis.gates(if beside { BESIDE } else { NEMESIS }));
        }
    }
    for (nemesis, count) in scenario.counts {
        for mut gate in nemesis.gates(NEMESIS) {
            gate["at_least"] = (*count).into();
            gates.push(gate);
        }
    }
    if scenario.nemeses.contains(&Nemesis::PauseHolder) && scenario.workloads.contains(&Workload::Register) {
        let pause = json!({"process": NEMESIS, "type": "ok", "f": "pause", "role": "holder", "phase": "start"});
        let refused = json!({"f": "write", "type": "fail", "error": "stale"});
        gates.push(json!({"name": "a stale write is refused after each pause", "count": refused, "at_least": 1, "after_each": pause}));
    }
    let mut checkers: Vec<String> = Vec::new();
    for name in scenario.workloads.iter().flat_map(|workload| workload.checkers()) {
        if !checkers.iter().any(|known| known == name) {
            checkers.push((*name).to_owned());
        }
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    RunInfo {
        scenario: scenario.name.to_owned(),
        seed: asked.seed,
        for_s: asked.span.as_secs(),
        target: asked.target.name().to_owned(),
        palisade: match &asked.planted {
            Some(bug) => format!("{version}, broken on purpose: {bug}"),
            None => version,
        },
        commit: env!("JEPSEN_LITE_COMMIT").to_owned(),
        started_unix_ms: u64::try_from(now.as_millis()).unwrap_or(0),
        gates: serde_json::from_value(Value::Array(gates)).expect("gates are of the form of HISTORY.md"),
        checkers,
    }
}

fn gate(expected: &(&str, &str, Option<&str>, usize)) -> Value {
    let (f, kind, error, at_least) = expected;
    let mut count = json!({"f": f, "type": kind});
    if let Some(error) = error {
        count["error"] = (*error).into();
    }
    let name = format!("{f} {kind}{}", error.map(|error| format!(" ({error})")).unwrap_or_default());
    json!({"name": name, "count": count, "at_least": at_least})
}
