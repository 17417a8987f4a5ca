//! Kill the election's holder again and again.
//!
//! Three store nodes, three candidates. Each candidate that is granted the election gets a writer that writes the fenced
//! registers under its token *for as long as the run goes on*: after its candidate was killed its writes carry a stale token and
//! must be refused. Readers read. The nemesis kills the holder with -9 and starts it again under a new name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use jepsen_lite::checkers::{Gate, Pattern};
use jepsen_lite::history::{OnDisconnect, Record, Recorder, Type, f};

use crate::api::v1::error_detail::Kind;
use crate::api::v1::observe_event;
use crate::api::{Api, Outcome};
use crate::processes::{Candidate, Launcher, free_addresses, kill};

pub(crate) const NAME: &str = "kill-holder";

const ELECTION: &str = "jepsen";
const CANDIDATES: usize = 3;
const REGISTERS: usize = 3;
const READERS: usize = 2;
/// Writers of dead holders go on; more than this many at once would only starve the rest of two cores.
const WRITERS: usize = 8;
const START: Duration = Duration::from_secs(20);

/// What every task of a run shares.
#[derive(Clone)]
struct Run {
    recorder: Recorder,
    addresses: Arc<Vec<String>>,
    stop: watch::Receiver<bool>,
    /// Process numbers: one is never used again after an unknown outcome.
    processes: Arc<AtomicU64>,
    /// Every written value is different.
    values: Arc<AtomicU64>,
}

impl Run {
    fn process(&self) -> String {
        self.processes.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

/// A candidate was granted the election.
struct Granted {
    name: String,
    token: u64,
}

/// What must have happened, and what must have been checked.
pub(crate) fn asks_for(span: Duration) -> (Vec<Gate>, Vec<String>) {
    // One kill in three seconds at least: a failover takes a small part of that.
    let kills = usize::try_from(span.as_secs() / 3).unwrap_or(usize::MAX).max(1);
    let gates = vec![
        Gate::at_least(kills, "holders killed", Pattern::fault("kill").role("holder")),
        Gate::at_least(1, "stale writes refused", Pattern::of(f::WRITE, Type::Fail).error("stale")),
        Gate::at_least(1, "reads after the faults", Pattern::of(f::READ, Type::Ok).within("final")),
    ];
    (gates, ["election", "fence", "durable", "replay", "linearizable"].map(str::to_owned).to_vec())
}

pub(crate) async fn run(launcher: &Launcher, recorder: &Recorder, seed: u64, span: Duration) -> anyhow::Result<()> {
    let addresses = free_addresses(3)?;
    let mut nodes = (1..=3).map(|id| launcher.node(id, &addresses)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut api = Api::new(&addresses)?;
    wait_until_serving(&mut api).await?;
    let (stop, stopped) = watch::channel(false);
    let run = Run {
        recorder: recorder.clone(),
        addresses: Arc::new(addresses.clone()),
        stop: stopped,
        processes: Arc::default(),
        values: Arc::default(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(observe(run.clone()));
    for reader in 0..READERS {
        tasks.spawn(read(run.clone(), SmallRng::seed_from_u64(seed.wrapping_add(reader as u64 + 1))));
    }
    let kills = torment(launcher, &run, &mut tasks, seed, span).await;
    // Heal: nothing is killed any more. One good write and read per register must go through.
    stop.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        ended.context("a client of the harness panicked")?;
    }
    let kills = kills?;
    run.recorder.record(Record { value: "final".into(), ..Record::seen("harness", f::PHASE) });
    final_reads(&run, &mut api).await?;
    for node in &mut nodes {
        anyhow::ensure!(node.try_wait()?.is_none(), "a store node ended by itself; see its log in the run folder");
        kill(node).await?;
    }
    eprintln!("jepsen-lite: killed {kills} holders");
    Ok(())
}

async fn wait_until_serving(api: &mut Api) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + START;
    while tokio::time::Instant::now() < deadline {
        if matches!(api.get("up").await, Outcome::Ok(_)) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("the cluster did not serve within {START:?}")
}

/// The nemesis: finds the holder, kills it, starts another candidate in its place. Gives the number of kills.
async fn torment(
    launcher: &Launcher,
    run: &Run,
    tasks: &mut JoinSet<()>,
    seed: u64,
    span: Duration,
) -> anyhow::Result<usize> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (granted, mut grants) = mpsc::channel::<Granted>(64);
    let mut names = 0..;
    let mut candidates = Vec::new();
    let mut start = |tasks: &mut JoinSet<()>| -> anyhow::Result<(String, tokio::process::Child)> {
        let name = format!("c{}", names.next().unwrap_or(0));
        let candidate = launcher.candidate(&name, ELECTION, &run.addresses)?;
        let mut campaign = Record::new(&name, Type::Invoke, "campaign");
        campaign.election = Some(ELECTION.to_owned());
        campaign.value = name.as_str().into();
        campaign.on_disconnect = Some(OnDisconnect::ReleaseAfter);
        run.recorder.record(campaign);
        let Candidate { name, child, events } = candidate;
        tasks.spawn(listen(run.clone(), name.clone(), events, granted.clone()));
        Ok((name, child))
    };
    for _ in 0..CANDIDATES {
        candidates.push(start(tasks)?);
    }
    let end = tokio::time::Instant::now() + span;
    let live = Arc::new(AtomicU64::new(0));
    let mut kills = 0;
    while tokio::time::Instant::now() < end {
        let Some(holder) =
            tokio::time::timeout(START, grants.recv()).await.context("nobody was granted the election")?
        else {
            break;
        };
        tasks.spawn(write(run.clone(), holder.token, SmallRng::seed_from_u64(rng.random()), Arc::clone(&live)));
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..400))).await;
        let Some(at) = candidates.iter().position(|(name, _)| *name == holder.name) else { continue };
        let mut nemesis = Record::new("nemesis", Type::Invoke, "kill");
        nemesis.key = Some(format!("kill-{kills}"));
        nemesis.value = json!({"phase": "start", "targets": [&holder.name], "role": "holder"});
        run.recorder.record(nemesis.clone());
        let (_, mut child) = candidates.swap_remove(at);
        kill(&mut child).await?;
        run.recorder.record(Record { kind: Type::Ok, token: Some(holder.token), ..nemesis });
        kills += 1;
        candidates.push(start(tasks)?);
    }
    for (_, mut child) in candidates {
        kill(&mut child).await?;
    }
    Ok(kills)
}

/// Turns a candidate's own words into the history.
async fn listen(
    run: Run,
    name: String,
    mut events: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
    granted: mpsc::Sender<Granted>,
) {
    let mut open = true;
    while let Ok(Some(line)) = events.next_line().await {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let (Some("granted"), Some(token), Some(seq)) =
            (event["event"].as_str(), event["token"].as_u64(), event["seq"].as_u64())
        else {
            continue;
        };
        // The first grant answers its campaign; it goes on by itself when it loses one.
        let mut record = Record::new(&name, Type::Ok, if std::mem::take(&mut open) { f::CAMPAIGN } else { f::GRANT });
        record.election = Some(ELECTION.to_owned());
        record.value = name.as_str().into();
        record.on_disconnect = Some(OnDisconnect::ReleaseAfter);
        (record.token, record.seq) = (Some(token), Some(seq));
        run.recorder.record(record);
        if granted.send(Granted { name: name.clone(), token }).await.is_err() {
            return;
        }
    }
    if open {
        let mut record = Record::new(&name, Type::Info, f::CAMPAIGN);
        record.election = Some(ELECTION.to_owned());
        record.value = name.as_str().into();
        record.on_disconnect = Some(OnDisconnect::ReleaseAfter);
        record.error = Some("killed".to_owned());
        run.recorder.record(record);
    }
}

/// Writes under one token until the run stops. Stops early when too many writers of dead holders are about.
async fn write(run: Run, token: u64, mut rng: SmallRng, live: Arc<AtomicU64>) {
    let number = live.fetch_add(1, Ordering::Relaxed);
    let Ok(mut api) = Api::new(&run.addresses) else { return };
    let mut process = run.process();
    let first = AtomicBool::new(true);
    while !*run.stop.borrow()
        && (first.swap(false, Ordering::Relaxed) || live.load(Ordering::Relaxed) < number + WRITERS as u64)
    {
        let mut record = Record::new(&process, Type::Invoke, "write");
        let key = format!("r{}", rng.random_range(0..REGISTERS));
        let value = run.values.fetch_add(1, Ordering::Relaxed).to_string();
        record.key = Some(key.clone());
        record.value = value.as_str().into();
        record.election = Some(ELECTION.to_owned());
        record.token = Some(token);
        run.recorder.record(record.clone());
        match api.put(&key, &value, Some((ELECTION, token))).await {
            Outcome::Ok(header) => {
                run.recorder.record(Record {
                    kind: Type::Ok,
                    seq: Some(header.seq),
                    revision: Some(header.revision),
                    ..record
                });
            }
            Outcome::Fail(kind) => {
                let error = if kind == Kind::StaleToken { "stale".to_owned() } else { format!("{kind:?}") };
                run.recorder.record(Record { error: Some(error), ..record.ended(Type::Fail) });
            }
            Outcome::Info(why) => {
                run.recorder.record(Record { error: Some(why), ..record.ended(Type::Info) });
                process = run.process();
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..20))).await;
    }
}

async fn read(run: Run, mut rng: SmallRng) {
    let Ok(mut api) = Api::new(&run.addresses) else { return };
    let mut process = run.process();
    while !*run.stop.borrow() {
        let key = format!("r{}", rng.random_range(0..REGISTERS));
        process = read_once(&run, &mut api, process, &key).await.0;
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..20))).await;
    }
}

/// Gives the process that goes on, and whether the read succeeded.
async fn read_once(run: &Run, api: &mut Api, process: String, key: &str) -> (String, bool) {
    let mut record = Record::new(&process, Type::Invoke, "read");
    record.key = Some(key.to_owned());
    run.recorder.record(record.clone());
    match api.get(key).await {
        Outcome::Ok((header, value)) => {
            run.recorder.record(Record {
                kind: Type::Ok,
                value: value.into(),
                seq: Some(header.seq),
                revision: Some(header.revision),
                ..record
            });
            (process, true)
        }
        // A read has no effect, whatever became of it.
        Outcome::Fail(kind) => {
            run.recorder.record(Record { error: Some(format!("{kind:?}")), ..record.ended(Type::Fail) });
            (process, false)
        }
        Outcome::Info(why) => {
            run.recorder.record(Record { error: Some(why), ..record.ended(Type::Fail) });
            (process, false)
        }
    }
}

async fn final_reads(run: &Run, api: &mut Api) -> anyhow::Result<()> {
    for register in 0..REGISTERS {
        let key = format!("r{register}");
        let mut done = false;
        for _ in 0..100 {
            done = read_once(run, api, run.process(), &key).await.1;
            if done {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::ensure!(done, "register {key} could not be read after the faults had ended");
    }
    Ok(())
}

/// Follows the election from outside; a broken stream is opened again, on whichever node serves it.
async fn observe(run: Run) {
    let Ok(mut api) = Api::new(&run.addresses) else { return };
    let mut stop = run.stop.clone();
    while !*run.stop.borrow() {
        let Outcome::Ok(mut stream) = api.observe(ELECTION).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            let message = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                message = stream.message() => message,
            };
            let Ok(Some(reply)) = message else { break };
            for event in reply.events {
                let Some(observe_event::Kind::Elected(elected)) = event.kind else { continue };
                let Some(grant) = elected.leader else { continue };
                let mut record = Record::seen("observer", f::OBSERVE);
                record.election = Some(ELECTION.to_owned());
                record.value = json!({"event": "elected", "candidate": grant.candidate_id});
                (record.token, record.seq) = (Some(grant.token), Some(grant.seq));
                run.recorder.record(record);
            }
        }
    }
}
