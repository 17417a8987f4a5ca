//! `palisade demo`: the whole thing on this machine, as separate processes on free loopback ports.
//!
//! It starts a store, JobManagers and TaskExecutors, submits a word count, kills the leading JobManager again and again and the
//! store leader once while the job runs, lets real stale messages arrive, and compares the result word by word with a plain count.
//! The product has no switch that makes it misbehave: everything here is done from outside.

mod calls;
mod input;
mod proxy;
mod report;
mod stale;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::try_join_all;
use palisade_client::{Client, ClientConfig, Grant, ObservedKind, Observer, PutOptions, Token};
use palisade_runtime::{JobClient, JobId, JobSpec, JobState, JobStatus};
use palisade_world::World;
use serde_json::json;

use crate::cli::{DemoArgs, Global};
use crate::exit::Failure;
use crate::interrupt::or_interrupted;
use crate::output;
use crate::processes::{Process, free_addresses, start_cluster};
use input::InputFile;
use proxy::Proxy;
use report::{JobManagerKill, StoreKill, Summary, Timeline, Words};

const ELECTION: &str = "jobmanager";
/// Nothing takes longer unless something is wrong.
const LIMIT: Duration = Duration::from_secs(60);
/// How often the job's state is looked at while something is waited for.
const LOOK: Duration = Duration::from_millis(3);
/// Slots of each TaskExecutor.
const SLOTS: u32 = 2;
const CHECKPOINT_EVERY_MS: u64 = 150;
/// What one kill takes with everything around it: the source is slowed down so that the kills hit a running job.
const SECONDS_PER_KILL: u64 = 3;
/// How long a leader's messages are held before it is killed: long enough for heartbeats and checkpoint triggers to be written,
/// far below the heartbeat timeout.
const HOLD: Duration = Duration::from_millis(600);

pub(crate) async fn run(args: DemoArgs, global: &Global, world: World) -> Result<(), Failure> {
    check(&args)?;
    let files = input::list(args.input.as_deref())?;
    let dir = folder(&args, &world)?;
    let asked = or_interrupted(demonstrate(&args, files, &dir, &world)).await;
    // Children are killed when their handles are dropped, which has happened by now.
    if args.keep.is_none() && asked.is_ok() {
        let _ = std::fs::remove_dir_all(&dir);
    } else {
        eprintln!("palisade: data and logs are in {}", dir.display());
    }
    let summary = asked?;
    output::show(global.output, &summary.document(), || summary.table());
    if summary.ok() { Ok(()) } else { Err(Failure::failed("the demo failed: see above")) }
}

fn check(args: &DemoArgs) -> Result<(), Failure> {
    let checks = [
        ("--nodes", args.nodes, 3, 9),
        ("--jobmanagers", args.jobmanagers, 2, 16),
        ("--taskexecutors", args.taskexecutors, 1, 16),
        ("--kills", args.kills, 0, 100),
    ];
    for (field, value, least, most) in checks {
        if !(least..=most).contains(&value) {
            return Err(Failure::usage(field, value.to_string(), format!("is not from {least} to {most}")));
        }
    }
    Ok(())
}

fn folder(args: &DemoArgs, world: &World) -> Result<PathBuf, Failure> {
    let dir = match &args.keep {
        Some(dir) => dir.clone(),
        None => {
            std::env::temp_dir().join(format!("palisade-demo-{}-{:08x}", std::process::id(), world.random_u64() as u32))
        }
    };
    std::fs::create_dir_all(&dir)?;
    if std::fs::read_dir(&dir)?.next().is_some() {
        return Err(Failure::usage("--keep", dir.display().to_string(), "the folder is not empty"));
    }
    Ok(dir.canonicalize()?)
}

/// Everything that runs, and how it is reached.
struct Stage<'a> {
    world: &'a World,
    timeline: Timeline,
    nodes: Vec<Process>,
    jobmanagers: Vec<Process>,
    taskexecutors: Vec<Process>,
    proxies: Vec<Proxy>,
    client: Client,
    jobs: JobClient,
}

async fn demonstrate(args: &DemoArgs, files: Vec<InputFile>, dir: &Path, world: &World) -> Result<Summary, Failure> {
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let timeline = Timeline::new(world.now());
    timeline.say(world.now(), format_args!("counting {} files, {bytes} bytes", files.len()));
    let expected = {
        let files = files.clone();
        let counted = world.blocking("count", move || input::count(&files)).await;
        counted.map_err(|error| Failure::failed(error.to_string()))??
    };
    let mut stage = Stage::set(args, dir, timeline, world).await?;
    let seconds = u64::from(args.kills + 1) * SECONDS_PER_KILL;
    let rate = (bytes / seconds).max(1);
    stage.say(format_args!("the source is slowed down to {rate} bytes/s, so that the kills hit a running job"));
    let spec = spec(&files, args.taskexecutors * SLOTS, rate);
    let job = JobId::random(world);
    stage.jobs.submit(&job, &spec).await.map_err(crate::job::failure)?;
    stage.say(format_args!("submitted job {job}"));
    stage
        .status_when(&job, "the job runs", |status| status.state == JobState::Running && status.records_processed > 0)
        .await?;
    let mut summary = Summary::default();
    for number in 1..=args.kills {
        let kill = stage.kill_jobmanager(&job, &mut summary).await?;
        stage.say(format_args!("kill {number} of {} survived", args.kills));
        summary.kills.push(kill);
        if number == args.kills.div_ceil(2) {
            summary.store_kill = Some(stage.kill_store_leader().await?);
        }
    }
    let counted = stage.result(&job).await?;
    summary.words = compare(&counted, &expected);
    stage.strike().await;
    Ok(summary)
}

fn spec(files: &[InputFile], parallelism: u32, rate: u64) -> JobSpec {
    let files: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
    serde_json::from_value(json!({
        "name": "demo", "kind": "word_count", "input": files, "parallelism": parallelism,
        "checkpoint_interval_ms": CHECKPOINT_EVERY_MS, "source_bytes_per_second": rate,
    }))
    .expect("the fields are those of a job")
}

fn compare(counted: &BTreeMap<Vec<u8>, u64>, expected: &BTreeMap<Vec<u8>, u64>) -> Words {
    let differ = counted.iter().filter(|(word, count)| expected.get(*word) != Some(count)).count();
    let missing = expected.keys().filter(|word| !counted.contains_key(*word)).count();
    Words {
        counted: counted.values().sum(),
        expected: expected.values().sum(),
        distinct: expected.len() as u64,
        mismatched: (differ + missing) as u64,
    }
}

impl Stage<'_> {
    async fn set<'a>(args: &DemoArgs, dir: &Path, timeline: Timeline, world: &'a World) -> Result<Stage<'a>, Failure> {
        let nodes = start_cluster(args.nodes as usize, dir, world).await?;
        let endpoints: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
        let config = ClientConfig { endpoints: endpoints.clone(), request_timeout: LIMIT };
        let client = Client::new(config, world.clone()).map_err(|error| Failure::failed(error.to_string()))?;
        client.put(beat(0)).await?;
        timeline.say(world.now(), format_args!("{} store nodes serve", nodes.len()));
        let storage = dir.join("storage");
        std::fs::create_dir_all(&storage)?;
        let common =
            ["--storage".to_owned(), storage.display().to_string(), "--endpoints".to_owned(), endpoints.join(",")];
        let start = |kind: &'static str, id: String, extra: Vec<String>| {
            let mut command = vec![kind.to_owned(), "--id".to_owned(), id.clone()];
            command.extend(extra);
            command.extend(common.clone());
            async move { Process::start(&id, command, dir, world).await }
        };
        let jobmanagers =
            try_join_all((1..=args.jobmanagers).map(|n| start("jobmanager", format!("jm-{n}"), Vec::new()))).await?;
        timeline.say(world.now(), format_args!("{} JobManagers campaign", jobmanagers.len()));
        let mut proxies = Vec::new();
        let mut taskexecutors = Vec::new();
        for n in 1..=args.taskexecutors {
            // Callers reach a TaskExecutor through our proxy, which can hold what they write.
            let listen = free_addresses(1, world).await?.remove(0);
            let proxy = Proxy::start(listen.clone(), world).await?;
            let data = dir.join(format!("te-{n}"));
            let (slots, data) = (SLOTS.to_string(), data.display().to_string());
            let extra = ["--listen", &listen, "--advertise", proxy.address(), "--slots", &slots, "--data", &data]
                .map(str::to_owned);
            let mut process = start("taskexecutor", format!("te-{n}"), extra.to_vec()).await?;
            process.address = listen;
            proxies.push(proxy);
            taskexecutors.push(process);
        }
        timeline.say(world.now(), format_args!("{} TaskExecutors follow the election", taskexecutors.len()));
        let jobs = JobClient::connect(&client, ELECTION, LIMIT).await.map_err(crate::job::failure)?;
        Ok(Stage { world, timeline, nodes, jobmanagers, taskexecutors, proxies, client, jobs })
    }

    fn say(&self, what: impl std::fmt::Display) {
        self.timeline.say(self.world.now(), what);
    }

    /// The job's status once it is as wanted; shows progress while it waits.
    async fn status_when(
        &self,
        job: &JobId,
        what: &str,
        wanted: impl Fn(&JobStatus) -> bool,
    ) -> Result<JobStatus, Failure> {
        self.status_within(LIMIT, job, what, wanted).await
    }

    async fn status_within(
        &self,
        limit: Duration,
        job: &JobId,
        what: &str,
        wanted: impl Fn(&JobStatus) -> bool,
    ) -> Result<JobStatus, Failure> {
        let until = self.world.now() + limit;
        while self.world.now() < until {
            if let Ok(status) = self.jobs.status(job).await {
                self.timeline.progress(format!(
                    "{}: token {}, attempt {}, {} records, {} checkpoints",
                    status.state.name(),
                    status.token,
                    status.attempt,
                    status.records_processed,
                    status.completed_checkpoints
                ));
                if matches!(status.state, JobState::Failed | JobState::Cancelled) {
                    return Err(Failure::failed(format!(
                        "the job is {}: {}",
                        status.state.name(),
                        status.why.unwrap_or_default()
                    )));
                }
                if wanted(&status) {
                    return Ok(status);
                }
            }
            self.world.sleep(LOOK).await;
        }
        Err(Failure::failed(format!("did not come about within {limit:?}: {what}")))
    }

    /// Kills the leading JobManager and measures how the others take over; then lets its stale messages arrive.
    async fn kill_jobmanager(&mut self, job: &JobId, summary: &mut Summary) -> Result<JobManagerKill, Failure> {
        self.status_when(job, "a checkpoint completes", |status| status.completed_checkpoints > 0).await?;
        let leader = self.client.leader(ELECTION).await?.ok_or_else(|| Failure::failed("no JobManager leads"))?;
        let at = self.jobmanagers.iter().position(|process| process.name == leader.candidate);
        let at = at.ok_or_else(|| Failure::failed(format!("'{}' leads, which is none of ours", leader.candidate)))?;
        self.proxies.iter().for_each(Proxy::hold);
        let until = self.world.now() + HOLD;
        while self.world.now() < until || (self.held() == 0 && self.world.now() < until + HOLD) {
            self.world.sleep(LOOK).await;
        }
        let mut observer = self.client.observe(ELECTION);
        observer.next().await?;
        let killed = self.jobmanagers[at].kill(self.world).await?;
        self.say(format_args!(
            "killed {} (token {}), {} of its calls are held back",
            leader.candidate,
            leader.token,
            self.held()
        ));
        let granted = self.elected_above(leader.token, &mut observer).await?;
        let granted_after = self.world.now() - killed;
        self.say(format_args!(
            "{} leads with token {} after {:.1} ms",
            granted.candidate,
            granted.token,
            crate::units::ms_f(granted_after)
        ));
        let token = granted.token.get();
        let all = u32::try_from(self.taskexecutors.len()).unwrap_or(u32::MAX);
        self.status_when(job, "all TaskExecutors are registered", |s| {
            s.token >= token && s.registered_task_executors >= all
        })
        .await?;
        let registered_after = self.world.now() - killed;
        let resumed = self.status_when(job, "the job goes on", |s| s.token >= token && s.resumed_ms.is_some()).await?;
        let resumed_after = self.world.now() - killed;
        let from = resumed
            .restored_checkpoint
            .map_or("the beginning".to_owned(), |checkpoint| format!("checkpoint {checkpoint}"));
        self.say(format_args!(
            "every TaskExecutor is registered there; the job goes on from {from} after {:.0} ms",
            crate::units::ms_f(resumed_after)
        ));
        self.jobmanagers[at].restart(self.world).await?;
        let stale = self.let_stale_arrive(leader.token).await?;
        summary.stale.add(stale);
        Ok(JobManagerKill {
            id: leader.candidate,
            token_before: leader.token.get(),
            token_after: token,
            granted: granted_after,
            registered: registered_after,
            resumed: resumed_after,
        })
    }

    fn held(&self) -> u64 {
        self.proxies.iter().map(Proxy::held).sum()
    }

    /// Kills the store leader while one caller writes.
    async fn kill_store_leader(&mut self) -> Result<StoreKill, Failure> {
        let at = crate::bench::store_leader(&self.client, &self.nodes, self.world).await?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let writer = self.world.spawn("demo-writer", longest_gap(self.client.clone(), self.world.clone(), stopped));
        self.world.sleep(Duration::from_millis(200)).await;
        self.nodes[at].kill(self.world).await?;
        self.say(format_args!("killed {}, the store leader", self.nodes[at].name));
        // The first write that is acknowledged after the kill ends the gap.
        self.client.put(beat(u64::MAX)).await?;
        let _ = stop.send(());
        let write_gap = writer.await.map_err(|error| Failure::failed(error.to_string()))?;
        self.say(format_args!(
            "writes are acknowledged again, the longest gap was {:.0} ms",
            crate::units::ms_f(write_gap)
        ));
        self.nodes[at].restart(self.world).await?;
        Ok(StoreKill { id: (at + 1).to_string(), write_gap })
    }

    /// The next leader above `token`, within the limit.
    async fn elected_above(&self, token: Token, observer: &mut Observer) -> Result<Grant, Failure> {
        let elected = async {
            loop {
                if let ObservedKind::Elected { leader, .. } = observer.next().await?.kind
                    && leader.token > token
                {
                    return Ok(leader);
                }
            }
        };
        let elected = self.world.timeout(LIMIT, elected).await;
        elected.unwrap_or_else(|| Err(Failure::failed(format!("nobody was elected within {LIMIT:?} after the kill"))))
    }

    async fn result(&self, job: &JobId) -> Result<BTreeMap<Vec<u8>, u64>, Failure> {
        self.status_within(LIMIT * 5, job, "the job finishes", |status| status.state == JobState::Finished).await?;
        self.say("the job is finished");
        self.jobs.result(job).await.map_err(crate::job::failure)
    }

    /// Ends everything in order.
    async fn strike(self) {
        let grace = Duration::from_secs(3);
        let all = self.taskexecutors.into_iter().chain(self.jobmanagers).chain(self.nodes);
        futures_util::future::join_all(all.map(|process| process.stop(grace, self.world))).await;
    }
}

fn beat(number: u64) -> PutOptions<'static> {
    PutOptions::new("demo/beat", number.to_string())
}

/// Writes in a closed loop until told to stop; the longest time between two acknowledgements.
async fn longest_gap(client: Client, world: World, mut stop: tokio::sync::oneshot::Receiver<()>) -> Duration {
    let (mut last, mut longest, mut number) = (world.now(), Duration::ZERO, 0);
    loop {
        number += 1;
        tokio::select! {
            biased;
            // Whatever is in flight is awaited: the gap ends with an acknowledgement, not with us.
            put = client.put(beat(number)) => if put.is_ok() {
                let now = world.now();
                longest = longest.max(now - last);
                last = now;
            },
        }
        if !matches!(stop.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Empty)) {
            return longest;
        }
    }
}
