//! Owns the running tasks of a TaskExecutor: one actor, one command at a time.
//!
//! It does not check fences: the endpoint has, before a command gets here, and when a newer leader is accepted the first thing
//! that gets here is [`TaskManager::end_below`]. It keeps true that at most one attempt of a job runs here, and that an
//! answered ending means that the tasks have ended.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use palisade_fence::Token;
use palisade_world::{Task, World};
use tokio::sync::{mpsc, oneshot};

use super::count_task::CountTask;
use super::counters::Counters;
use super::exchange_client::ExchangeClient;
use super::gate::{GateId, Gates};
use super::report::{Report, Reports};
use super::reporter::Reporter;
use super::source_task::SourceTask;
use super::task_error::TaskError;
use crate::dataflow::align::CheckpointId;
use crate::dataflow::count::Counts;
use crate::dataflow::source::{Source, SourcePosition};
use crate::dataflow::split::splits_of;
use crate::job::{JobGraph, JobId};
use crate::jobmaster::scheduler::Lasting;
use crate::jobmaster::task::{AttemptId, ExecutorId, TaskId, Vertex};
use crate::storage::{Payload, StorageFolder};

/// Commands that may wait; more means that something is wrong.
const COMMANDS: usize = 1024;
/// Reports that may wait for the JobMaster; tasks then wait in turn.
const REPORTS: usize = 1024;
/// Checkpoints that a source has not come to yet.
const TRIGGERS: usize = 16;

/// What a task starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Restore {
    Nothing,
    Source(SourcePosition),
    Count(Payload),
}

/// A task to be started.
#[derive(Clone, Debug)]
pub(crate) struct TaskSpec {
    pub(crate) job: JobId,
    pub(crate) attempt: AttemptId,
    pub(crate) task: TaskId,
    pub(crate) graph: Payload,
    pub(crate) job_master: String,
    /// Data addresses by count subtask.
    pub(crate) count_addresses: Vec<String>,
    pub(crate) restore: Restore,
}

enum Command {
    Start(Box<TaskSpec>, oneshot::Sender<Result<(), String>>),
    /// All tasks of this attempt of the job, and of earlier ones.
    End(JobId, AttemptId, oneshot::Sender<()>),
    EndBelow(Token, oneshot::Sender<()>),
    EndAll(oneshot::Sender<()>),
    Trigger(JobId, AttemptId, CheckpointId),
}

/// The handle.
#[derive(Clone, Debug)]
pub(crate) struct TaskManager {
    commands: mpsc::Sender<Command>,
    /// Leaders below it are refused from the moment it rises, whatever waits in the queue.
    floor: Arc<AtomicU64>,
    gates: Gates,
}

/// What all tasks of a TaskExecutor share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) executor: ExecutorId,
    pub(crate) gates: Gates,
    pub(crate) exchange: ExchangeClient,
    pub(crate) storage: StorageFolder,
    pub(crate) counters: Counters,
    pub(crate) world: World,
    pub(crate) links: super::links::Links,
}

impl TaskManager {
    /// Starts the actor. Dropping its task ends all tasks at once.
    pub(crate) fn start(shared: Shared) -> (TaskManager, Task<()>) {
        let (commands, received) = mpsc::channel(COMMANDS);
        let weak = commands.downgrade();
        let floor = Arc::new(AtomicU64::new(0));
        let (world, gates) = (shared.world.clone(), shared.gates.clone());
        let state = State { shared, jobs: BTreeMap::new(), floor: floor.clone(), handle: weak };
        let actor = world.spawn("task-manager", run(state, received));
        (TaskManager { commands, floor, gates }, actor)
    }

    /// A newer leader has been accepted: at once nothing of older ones is started and no channel of theirs is opened.
    pub(crate) fn raise(&self, token: Token) {
        self.floor.fetch_max(token.get(), Ordering::AcqRel);
        self.gates.raise(token);
    }

    /// Starts a task; a count's channels are open when this returns.
    pub(crate) async fn start_task(&self, spec: TaskSpec) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Start(Box::new(spec), reply)).await;
        answer.await.unwrap_or_else(|_| Err("this TaskExecutor is ending".to_owned()))
    }

    /// Ends all tasks of this attempt and of earlier ones; they have ended when this returns.
    pub(crate) async fn end(&self, job: JobId, attempt: AttemptId) {
        self.command(|reply| Command::End(job, attempt, reply)).await;
    }

    /// Ends all tasks of leaders before this one; they have ended when this returns, and none is started again.
    pub(crate) async fn end_below(&self, token: Token) {
        self.raise(token);
        self.command(|reply| Command::EndBelow(token, reply)).await;
    }

    /// Ends all tasks; they have ended when this returns.
    pub(crate) async fn end_all(&self) {
        self.command(Command::EndAll).await;
    }

    /// Makes the sources of an attempt send a barrier. Without effect if there are none.
    pub(crate) async fn trigger(&self, job: JobId, attempt: AttemptId, id: CheckpointId) {
        let _ = self.commands.send(Command::Trigger(job, attempt, id)).await;
    }

    async fn command(&self, make: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(make(reply)).await;
        let _ = answer.await;
    }
}

struct Running {
    task: Task<()>,
    triggers: Option<mpsc::Sender<CheckpointId>>,
}

/// The tasks of one attempt of a job here.
struct Attempt {
    id: AttemptId,
    graph: Arc<JobGraph>,
    tasks: BTreeMap<TaskId, Running>,
    progress: Progress,
    reports: mpsc::Sender<(TaskId, Report)>,
    reporter: Task<()>,
}

/// Records counted by subtask; read by the reporter's heartbeats.
pub(crate) type Progress = Arc<std::sync::Mutex<BTreeMap<TaskId, Arc<AtomicU64>>>>;

struct State {
    shared: Shared,
    jobs: BTreeMap<JobId, Attempt>,
    floor: Arc<AtomicU64>,
    handle: mpsc::WeakSender<Command>,
}

async fn run(mut state: State, mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Start(spec, reply) => {
                let _ = reply.send(state.start(*spec).await);
            }
            Command::End(job, attempt, reply) => {
                state.end_where(|at, running| *at == job && running.id <= attempt).await;
                let _ = reply.send(());
            }
            Command::EndBelow(token, reply) => {
                state.end_where(|_, running| running.id.token < token).await;
                let _ = reply.send(());
            }
            Command::EndAll(reply) => {
                state.end_where(|_, _| true).await;
                let _ = reply.send(());
            }
            Command::Trigger(job, attempt, id) => state.trigger(&job, attempt, id),
        }
    }
    state.end_where(|_, _| true).await;
}

impl State {
    async fn start(&mut self, spec: TaskSpec) -> Result<(), String> {
        if spec.attempt.token.get() < self.floor.load(Ordering::Acquire) {
            return Err("a newer leader has been accepted".to_owned());
        }
        if self.jobs.get(&spec.job).is_some_and(|running| running.id > spec.attempt) {
            return Err("a later attempt runs here".to_owned());
        }
        // What older leaders started, and an earlier attempt of which the JobMaster could not know that it still ran.
        self.end_where(|job, running| {
            running.id.token < spec.attempt.token || (*job == spec.job && running.id < spec.attempt)
        })
        .await;
        if !self.jobs.contains_key(&spec.job) {
            let attempt = self.open_attempt(&spec).await.map_err(|error| error.to_string())?;
            self.jobs.insert(spec.job.clone(), attempt);
        }
        // The world may have changed while we waited.
        if spec.attempt.token.get() < self.floor.load(Ordering::Acquire) {
            return Err("a newer leader has been accepted".to_owned());
        }
        let shared = self.shared.clone();
        let Some(attempt) = self.jobs.get_mut(&spec.job) else { return Err("the attempt is gone".to_owned()) };
        if attempt.tasks.contains_key(&spec.task) {
            // The JobMaster repeats what was not answered.
            return Ok(());
        }
        let task = spec.task;
        tracing::info!(job = %spec.job, attempt = %spec.attempt, %task, "starting a task");
        self.shared.counters.add("tasks_started", 1);
        let running = match task.vertex {
            Vertex::Source => start_source(&shared, attempt, spec),
            Vertex::Count => start_count(&shared, attempt, spec).await.map_err(|error| error.to_string())?,
        };
        attempt.tasks.insert(task, running);
        Ok(())
    }

    async fn open_attempt(&self, spec: &TaskSpec) -> Result<Attempt, TaskError> {
        let storage = self.shared.storage.clone();
        let payload = spec.graph.clone();
        let bytes = blocking(&self.shared.world, move || Ok(storage.read(&payload)?)).await?;
        let graph: JobGraph = serde_json::from_slice(&bytes)
            .map_err(|error| TaskError::BadGraph { path: spec.graph.path.clone(), why: error.to_string() })?;
        let (reports, queue) = mpsc::channel(REPORTS);
        let progress = Progress::default();
        let reporter = Reporter {
            job: spec.job.clone(),
            attempt: spec.attempt,
            executor: self.shared.executor.clone(),
            job_master: spec.job_master.clone(),
            links: self.shared.links.clone(),
            progress: progress.clone(),
            counters: self.shared.counters.clone(),
            world: self.shared.world.clone(),
            gateway: None,
        };
        let (handle, job, attempt) = (self.handle.clone(), spec.job.clone(), spec.attempt);
        // The attempt is over, says the JobMaster; the actor ends it, and this reporter with it.
        let over = move || {
            if let Some(commands) = handle.upgrade() {
                let (reply, _) = oneshot::channel();
                let _ = commands.try_send(Command::End(job.clone(), attempt, reply));
            }
        };
        let reporter = self.shared.world.spawn("reporter", reporter.run(queue, over));
        Ok(Attempt { id: spec.attempt, graph: Arc::new(graph), tasks: BTreeMap::new(), progress, reports, reporter })
    }

    /// Ends attempts and waits until their tasks have ended.
    async fn end_where(&mut self, which: impl Fn(&JobId, &Attempt) -> bool) {
        let over: Vec<JobId> =
            self.jobs.iter().filter(|(job, running)| which(job, running)).map(|(job, _)| job.clone()).collect();
        for job in over {
            let Some(attempt) = self.jobs.remove(&job) else { continue };
            attempt.reporter.abort();
            for running in attempt.tasks.values() {
                running.task.abort();
            }
            for (task, running) in attempt.tasks {
                self.shared.counters.add("tasks_ended", 1);
                if let Err(ended) = running.task.await
                    && ended.panic.is_some()
                {
                    tracing::warn!(%job, attempt = %attempt.id, %task, %ended, "a task ended badly");
                }
            }
            tracing::info!(%job, attempt = %attempt.id, "the tasks of an attempt have ended");
        }
    }

    fn trigger(&self, job: &JobId, attempt: AttemptId, id: CheckpointId) {
        let Some(running) = self.jobs.get(job).filter(|running| running.id == attempt) else { return };
        for (task, source) in &running.tasks {
            let Some(triggers) = &source.triggers else { continue };
            // Full: the JobMaster gives the checkpoint up in time. Closed: the source's end stands for its barrier.
            if let Err(mpsc::error::TrySendError::Full(_)) = triggers.try_send(id) {
                tracing::warn!(%job, %attempt, %task, checkpoint = %id, "too many checkpoints are waiting");
            }
        }
    }
}

fn start_source(shared: &Shared, attempt: &Attempt, spec: TaskSpec) -> Running {
    let (triggers, received) = mpsc::channel(TRIGGERS);
    let reports = Reports::new(spec.task, attempt.reports.clone());
    let graph = attempt.graph.clone();
    let (exchange, world) = (shared.exchange.clone(), shared.world.clone());
    let run = {
        let reports = reports.clone();
        async move {
            let splits = splits_of(&graph.files, graph.split_bytes, spec.task.subtask, graph.spec.parallelism);
            let position = match spec.restore {
                Restore::Source(position) => Some(position),
                Restore::Nothing | Restore::Count(_) => None,
            };
            let mut channels = Vec::new();
            for (count, address) in (0..).zip(&spec.count_addresses) {
                let gate = GateId { job: spec.job.clone(), attempt: spec.attempt, count };
                channels.push(exchange.open(spec.task.subtask, &gate, address).await?);
            }
            let source = Source::new(splits, position);
            SourceTask { graph, source, channels, triggers: received, reports, world }.run().await
        }
    };
    Running { task: shared.world.spawn("source", guarded(run, reports)), triggers: Some(triggers) }
}

async fn start_count(shared: &Shared, attempt: &Attempt, spec: TaskSpec) -> Result<Running, TaskError> {
    let counts = match spec.restore {
        Restore::Count(payload) => {
            let storage = shared.storage.clone();
            blocking(&shared.world, move || Ok(Counts::restore(&storage.read(&payload)?)?)).await?
        }
        Restore::Nothing | Restore::Source(_) => Counts::default(),
    };
    let sources = attempt.graph.spec.parallelism;
    let progress = Arc::new(AtomicU64::new(0));
    attempt.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(spec.task, progress.clone());
    let reports = Reports::new(spec.task, attempt.reports.clone());
    let task = CountTask {
        gate: shared
            .gates
            .add(GateId { job: spec.job.clone(), attempt: spec.attempt, count: spec.task.subtask }, sources),
        sources: usize::try_from(sources).expect("a u32 fits in a usize"),
        counts,
        reports: reports.clone(),
        storage: shared.storage.clone(),
        folder: attempt_folder(&spec.job, spec.attempt),
        subtask: spec.task.subtask,
        progress,
        counters: shared.counters.clone(),
        world: shared.world.clone(),
    };
    Ok(Running { task: shared.world.spawn("count", guarded(task.run(), reports)), triggers: None })
}

/// The folder of an attempt in the storage. It has the token in its name, so that no two leaders ever write the same file.
pub(crate) fn attempt_folder(job: &JobId, attempt: AttemptId) -> String {
    format!("jobs/{job}/{}-{}", attempt.token, attempt.number)
}

/// Runs a task; whatever ends it but success is reported.
async fn guarded(run: impl Future<Output = Result<(), TaskError>>, reports: Reports) {
    let failed = match AssertUnwindSafe(run).catch_unwind().await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => Report::Failed { why: error.to_string(), lasting: error.lasting() },
        Err(_) => Report::Failed { why: "the task panicked".to_owned(), lasting: Lasting::No },
    };
    tracing::warn!(?failed, "a task failed");
    reports.send(failed).await;
}

/// Work on files.
async fn blocking<T: Send + 'static>(
    world: &World,
    work: impl FnOnce() -> Result<T, TaskError> + Send + 'static,
) -> Result<T, TaskError> {
    world.blocking("read state", work).await.map_err(|_| TaskError::Panicked)?
}

/// Records counted by each subtask.
pub(crate) fn read_progress(progress: &Progress) -> Vec<(TaskId, u64)> {
    let progress = progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    progress.iter().map(|(task, records)| (*task, records.load(Ordering::Relaxed))).collect()
}
