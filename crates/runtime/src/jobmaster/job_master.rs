//! Carries out what the scheduler of a job decides: one actor per job and leadership.
//!
//! Everything that it does outside this process is fenced: calls carry the leader's token, pointers are fenced writes, payloads
//! lie below a folder with the token in its name. So it needs no orderly end: dropping it is enough.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use palisade_fence::Fence;
use palisade_rpc::{Backoff, Gone, Heartbeat, HeartbeatPolicy};
use palisade_world::{Task, Tasks, World};
use tokio::sync::{mpsc, oneshot, watch};

use super::checkpoints::{CheckpointEffect, CheckpointMetadata, CheckpointPointer, Checkpoints, CompletedCheckpoint};
use super::recovery;
use super::scheduler::{Effect, Event, Lasting, Scheduler};
use super::task::{AttemptId, ExecutorId, Slot, TaskId, Vertex};
use super::workers::Workers;
use crate::convert;
use crate::dataflow::align::CheckpointId;
use crate::ha::{JobStore, JobStoreError};
use crate::job::{JobGraph, JobId, JobResult, JobState, JobStatus, ResultPart};
use crate::jobmanager::Heartbeats;
use crate::proto;
use crate::resourcemanager::{Overview, ResourceManagerHandle};
use crate::storage::{Payload, StorageFolder};
use crate::taskexecutor::attempt_folder;

/// Events that may wait; senders wait beyond that.
const EVENTS: usize = 4096;
/// What reaches the actor.
#[derive(Debug)]
pub(crate) enum Command {
    Event(Event),
    /// A count has counted its first record.
    FirstRecord {
        attempt: u64,
    },
    /// Progress of the tasks on one TaskExecutor; answers whether the attempt is the present one.
    Progress {
        executor: ExecutorId,
        attempt: u64,
        tasks: Vec<(TaskId, u64)>,
        reply: oneshot::Sender<bool>,
    },
    /// The result is known to be stored.
    ResultStored(JobResult),
    /// The leadership is over, found out by a refused write.
    Over(String),
}

/// The handle of a running JobMaster. Dropping it ends the actor.
#[derive(Debug)]
pub(crate) struct JobMasterHandle {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<JobStatus>,
    result: watch::Receiver<Option<JobResult>>,
    _actor: Task<()>,
}

impl JobMasterHandle {
    pub(crate) fn commands(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }

    pub(crate) fn status(&self) -> JobStatus {
        self.status.borrow().clone()
    }

    /// `Some` once the result is known to be stored.
    pub(crate) fn result(&self) -> watch::Receiver<Option<JobResult>> {
        self.result.clone()
    }
}

/// What a JobMaster works with.
pub(crate) struct JobMasterContext {
    pub(crate) graph: Arc<JobGraph>,
    pub(crate) graph_payload: Payload,
    pub(crate) fence: Fence,
    pub(crate) store: JobStore,
    pub(crate) storage: StorageFolder,
    pub(crate) resource_manager: ResourceManagerHandle,
    pub(crate) workers: Workers,
    /// Where this job's JobMaster gateway is reached.
    pub(crate) address: String,
    pub(crate) heartbeats: Heartbeats,
    /// When the leadership was granted, on this world's clock.
    pub(crate) granted: Duration,
    pub(crate) overview: watch::Receiver<Overview>,
    /// To be told when this leadership cannot go on: a write was refused as stale, or an actor panicked.
    pub(crate) fatal: watch::Sender<Option<String>>,
    pub(crate) world: World,
}

struct JobMaster {
    cx: Arc<JobMasterContext>,
    scheduler: Scheduler,
    commands: mpsc::Sender<Command>,
    effects: Tasks,
    status: watch::Sender<JobStatus>,
    result: watch::Sender<Option<JobResult>>,
    /// Metadata of the checkpoint that the present attempt restores.
    restored: Option<CheckpointMetadata>,
    records: BTreeMap<TaskId, u64>,
    /// Of the TaskExecutors that run the present attempt.
    beats: palisade_rpc::Heartbeats<ExecutorId, ()>,
    registered: Option<Duration>,
    resumed: Option<Duration>,
    /// A checkpoint of an earlier leadership whose confirmation is to be repeated once the tasks run.
    unconfirmed: Option<CheckpointId>,
    /// The stored result.
    ended: Option<JobResult>,
    over: Option<String>,
}

/// Takes a job up: from its stored pointer, or from the beginning.
pub(crate) fn start(cx: JobMasterContext) -> (mpsc::Sender<Command>, JobMasterHandle) {
    let (commands, received) = mpsc::channel(EVENTS);
    let status = initial_status(&cx);
    let (status, status_seen) = watch::channel(status);
    let (result, result_seen) = watch::channel(None);
    let world = cx.world.clone();
    let cx = Arc::new(cx);
    let running = run(cx.clone(), commands.clone(), received, status, result);
    let actor = world.spawn("job-master", async move {
        if AssertUnwindSafe(running).catch_unwind().await.is_err() {
            let why = format!("the JobMaster of {} panicked", cx.graph.id);
            cx.fatal.send_replace(Some(why));
        }
    });
    (commands.clone(), JobMasterHandle { commands, status: status_seen, result: result_seen, _actor: actor })
}

fn initial_status(cx: &JobMasterContext) -> JobStatus {
    let overview = *cx.overview.borrow();
    JobStatus {
        id: cx.graph.id.clone(),
        name: cx.graph.spec.name.clone(),
        state: JobState::WaitingForSlots,
        token: cx.fence.token.get(),
        attempt: 1,
        registered_task_executors: overview.task_executors,
        slots: overview.slots,
        restored_checkpoint: None,
        last_checkpoint: None,
        completed_checkpoints: 0,
        records_processed: 0,
        started_ms: None,
        registered_ms: None,
        resumed_ms: None,
        why: None,
    }
}

async fn run(
    cx: Arc<JobMasterContext>,
    commands: mpsc::Sender<Command>,
    mut received: mpsc::Receiver<Command>,
    status: watch::Sender<JobStatus>,
    result: watch::Sender<Option<JobResult>>,
) {
    let recovered = match recovery::recover(&cx).await {
        Ok(recovered) => recovered,
        Err(error) => {
            tracing::error!(job = %cx.graph.id, fence = %cx.fence, %error, "the job cannot be taken up");
            status.send_modify(|status| status.why = Some(error.to_string()));
            return;
        }
    };
    let unconfirmed = recovered.pointer.completed.last().map(|newest| newest.id);
    let checkpoints = Checkpoints::recovered(cx.graph.spec.parallelism, recovered.pointer, recovered.seen);
    let policy = HeartbeatPolicy {
        interval: cx.heartbeats.interval,
        timeout: cx.heartbeats.timeout,
        // They only listen: a broken connection is noticed by the ResourceManager.
        failures: None,
    };
    let beats = palisade_rpc::Heartbeats::new(policy, &cx.world);
    let mut master = JobMaster {
        scheduler: Scheduler::new(cx.graph.spec.parallelism, checkpoints),
        restored: recovered.metadata,
        commands,
        effects: Tasks::new(),
        status,
        result,
        records: BTreeMap::new(),
        beats,
        registered: None,
        resumed: None,
        unconfirmed,
        ended: None,
        over: None,
        cx,
    };
    master.on(Event::Start);
    let interval = Duration::from_millis(master.cx.graph.spec.checkpoint_interval_ms);
    let mut checkpoint_at = master.cx.world.now() + interval;
    let beats = master.beats.clone();
    while master.over.is_none() {
        let world = master.cx.world.clone();
        tokio::select! {
            command = received.recv() => match command {
                Some(command) => master.take(command),
                None => return,
            },
            () = world.sleep_until(checkpoint_at) => {
                checkpoint_at = world.now() + interval;
                master.on(Event::CheckpointDue);
            }
            event = beats.next() => if let Heartbeat::Gone { target, why } = event {
                master.on_silence(target, &why);
            },
        }
        master.publish();
    }
    tracing::info!(job = %master.cx.graph.id, fence = %master.cx.fence, why = ?master.over, "the JobMaster stops");
    master.cx.fatal.send_replace(master.over);
}

impl JobMaster {
    fn take(&mut self, command: Command) {
        match command {
            Command::Event(event) => self.on(event),
            Command::FirstRecord { attempt } if attempt == self.scheduler.attempt() => {
                let now = self.cx.world.now();
                self.resumed.get_or_insert(now);
            }
            Command::FirstRecord { .. } => {}
            Command::Progress { executor, attempt, tasks, reply } => {
                let current = attempt == self.scheduler.attempt() && !self.scheduler.state().is_terminal();
                if current {
                    self.records.extend(tasks);
                    self.beats.heard(&executor, ());
                }
                // The TaskExecutor may have stopped waiting.
                let _ = reply.send(current);
            }
            Command::ResultStored(result) => {
                self.ended = Some(result.clone());
                self.on(Event::ResultStored);
                // Whoever waits for the result finds a status that says so.
                self.publish();
                self.result.send_replace(Some(result));
            }
            Command::Over(why) => self.over = Some(why),
        }
    }

    fn on(&mut self, event: Event) {
        tracing::debug!(job = %self.cx.graph.id, fence = %self.cx.fence, ?event, "event");
        let before = self.scheduler.state();
        let now = self.cx.world.now();
        for effect in self.scheduler.on(event, now) {
            self.carry_out(effect);
        }
        let after = self.scheduler.state();
        if before != after {
            tracing::info!(job = %self.cx.graph.id, fence = %self.cx.fence, attempt = self.scheduler.attempt(), from = %before,
                to = %after, why = self.scheduler.why(), "the job's state changed");
        }
        if after == JobState::Running
            && before != JobState::Running
            && let Some(id) = self.unconfirmed.take()
        {
            // The last leader may have ended between the pointer and its confirmation; confirming twice changes nothing.
            self.confirm(self.scheduler.attempt(), id);
        }
    }

    fn attempt_id(&self, number: u64) -> AttemptId {
        AttemptId { token: self.cx.fence.token, number }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::RequestSlots { attempt, count } => {
                self.cx.resource_manager.request(self.cx.graph.id.clone(), attempt, count, self.commands.clone());
            }
            Effect::ReleaseSlots => self.cx.resource_manager.release(self.cx.graph.id.clone()),
            Effect::Deploy { attempt, task, slot, restore } => self.deploy(attempt, task, slot, restore),
            Effect::EndTasks { attempt, slot } => self.end_tasks(attempt, slot),
            Effect::RestartAfter { attempt, pause } => {
                let world = self.cx.world.clone();
                self.later(async move {
                    world.sleep(pause).await;
                    Event::RestartDue { attempt }
                });
            }
            Effect::Checkpoint { attempt, effect } => self.checkpoint(attempt, effect),
            Effect::StoreResult { state, parts, why } => self.store_result(state, parts, why),
            Effect::CleanUp => self.clean_up(),
        }
    }

    /// Runs something and reports the event that it ends with.
    fn later(&mut self, work: impl Future<Output = Event> + Send + 'static) {
        let commands = self.commands.clone();
        self.effects.spawn(async move {
            let event = work.await;
            let _ = commands.send(Command::Event(event)).await;
        });
    }

    fn deploy(&mut self, attempt: u64, task: TaskId, slot: Slot, restore: Option<CompletedCheckpoint>) {
        let now = self.cx.world.now();
        self.registered.get_or_insert(now);
        // Its silence begins anew.
        self.beats.unwatch(&slot.executor);
        self.beats.watch(slot.executor.clone());
        if task.vertex == Vertex::Count && task.subtask == 0 {
            self.records.clear();
        }
        let count_addresses = self.scheduler.slots().iter().map(|slot| slot.data_address.clone()).collect();
        let cx = self.cx.clone();
        let id = self.attempt_id(attempt);
        let known = self.restored.clone();
        self.later(async move {
            match deploy(&cx, id, task, &slot, count_addresses, restore, known).await {
                Ok(()) => Event::Deployed { attempt, task },
                Err(why) => Event::TaskFailed {
                    attempt,
                    why: format!("{task} on {}: {why}", slot.executor),
                    lasting: Lasting::No,
                },
            }
        });
    }

    fn end_tasks(&mut self, attempt: u64, slot: Slot) {
        let (cx, id) = (self.cx.clone(), self.attempt_id(attempt));
        self.later(async move {
            let mut pauses = Backoff::default();
            loop {
                let request = proto::CancelTasksRequest { attempt: Some(convert::attempt_to(&cx.graph.id, id)) };
                let asked = match cx.workers.at(&slot.address).await {
                    Ok(gateway) => gateway.cancel_tasks(request).await.map_err(|error| error.to_string()),
                    Err(why) => Err(why),
                };
                match asked {
                    Ok(_) => return Event::TasksEnded { attempt, executor: slot.executor },
                    // Until it answers, or is given up as lost.
                    Err(why) => tracing::debug!(executor = %slot.executor, why, "ending tasks: asking again"),
                }
                let pause = pauses.pause(&cx.world);
                cx.world.sleep(pause).await;
            }
        });
    }

    fn checkpoint(&mut self, attempt: u64, effect: CheckpointEffect) {
        let cx = self.cx.clone();
        let id = self.attempt_id(attempt);
        match effect {
            CheckpointEffect::Trigger(checkpoint) => self.trigger(attempt, checkpoint),
            CheckpointEffect::Confirm(checkpoint) => self.confirm(attempt, checkpoint),
            CheckpointEffect::Store(metadata) => self.store_checkpoint(attempt, metadata),
            CheckpointEffect::Remove(folder) => self.remove(folder),
            CheckpointEffect::Abort(checkpoint) => {
                self.remove(format!("{}/chk-{checkpoint}", attempt_folder(&cx.graph.id, id)));
            }
        }
    }

    fn trigger(&mut self, attempt: u64, checkpoint: CheckpointId) {
        for slot in self.executors() {
            let (cx, commands, id) = (self.cx.clone(), self.commands.clone(), self.attempt_id(attempt));
            self.effects.spawn(async move {
                let request = proto::TriggerCheckpointRequest {
                    attempt: Some(convert::attempt_to(&cx.graph.id, id)),
                    checkpoint: checkpoint.0,
                };
                let asked = match cx.workers.at(&slot.address).await {
                    Ok(gateway) => gateway.trigger_checkpoint(request).await.map_err(|error| error.to_string()),
                    Err(why) => Err(why),
                };
                if let Err(why) = asked {
                    tracing::info!(job = %cx.graph.id, attempt = %id, %checkpoint, why, "a checkpoint could not be triggered");
                    let _ = commands.send(Command::Event(Event::Declined { attempt, id: checkpoint })).await;
                }
            });
        }
    }

    fn confirm(&mut self, attempt: u64, checkpoint: CheckpointId) {
        tracing::info!(job = %self.cx.graph.id, attempt = %self.attempt_id(attempt), %checkpoint, "the checkpoint is complete");
        for slot in self.executors() {
            let (cx, id) = (self.cx.clone(), self.attempt_id(attempt));
            self.effects.spawn(async move {
                let request = proto::ConfirmCheckpointRequest {
                    attempt: Some(convert::attempt_to(&cx.graph.id, id)),
                    checkpoint: checkpoint.0,
                };
                // A lost confirmation is made up for by the next one: confirming includes all before.
                if let Ok(gateway) = cx.workers.at(&slot.address).await {
                    let _ = gateway.confirm_checkpoint(request).await;
                }
            });
        }
    }

    fn store_checkpoint(&mut self, attempt: u64, metadata: CheckpointMetadata) {
        let folder = format!("{}/chk-{}", attempt_folder(&self.cx.graph.id, self.attempt_id(attempt)), metadata.id);
        let checkpoints = self.scheduler.checkpoints().clone();
        let (cx, commands) = (self.cx.clone(), self.commands.clone());
        self.effects.spawn(async move {
            let id = metadata.id;
            let stored = match write_metadata(&cx, &folder, &metadata).await {
                Ok(payload) => {
                    let completed = CompletedCheckpoint { id, folder, metadata: payload };
                    let pointer: CheckpointPointer = checkpoints.pointer_with(completed.clone());
                    // The payload is durable. The pointer comes after it, and is repeated until its outcome is known.
                    cx.store.put_checkpoints(&cx.graph.id, &pointer).await.map(|()| Event::CheckpointStored(completed))
                }
                Err(error) => {
                    tracing::warn!(job = %cx.graph.id, checkpoint = %id, %error, "the checkpoint's metadata was not written");
                    Ok(Event::CheckpointNotWritten(id))
                }
            };
            let command = match stored {
                Ok(event) => Command::Event(event),
                Err(error) => Command::Over(error.to_string()),
            };
            let _ = commands.send(command).await;
        });
    }

    fn store_result(&mut self, state: JobState, parts: Vec<ResultPart>, why: Option<String>) {
        let result = JobResult { state, dirty: true, parts, why, token: self.cx.fence.token.get() };
        let (cx, commands) = (self.cx.clone(), self.commands.clone());
        self.effects.spawn(async move {
            let command = match cx.store.put_result(&cx.graph.id, &result).await {
                Ok(()) => {
                    tracing::info!(job = %cx.graph.id, fence = %cx.fence, %state, words = result.words(), "the result is stored");
                    Command::ResultStored(result)
                }
                Err(error) => Command::Over(error.to_string()),
            };
            let _ = commands.send(command).await;
        });
    }

    fn clean_up(&mut self) {
        let (cx, commands) = (self.cx.clone(), self.commands.clone());
        let Some(result) = self.ended.clone() else { return };
        self.effects.spawn(async move {
            match clean_up(&cx.world, &cx.store, &cx.storage, &cx.graph.id, &result).await {
                Ok(()) => {}
                Err(JobStoreError::Over(why)) => {
                    let _ = commands.send(Command::Over(why)).await;
                }
                Err(error) => tracing::warn!(job = %cx.graph.id, %error, "the next leader finishes the clean-up"),
            }
        });
    }

    fn remove(&mut self, folder: String) {
        let cx = self.cx.clone();
        self.effects.spawn(async move {
            let storage = cx.storage.clone();
            let path = folder.clone();
            let removed = cx.world.blocking("remove folder", move || storage.remove(&path)).await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(job = %cx.graph.id, folder, %error, "a folder was not removed; the job's end removes it");
            }
        });
    }

    /// One slot of each TaskExecutor that runs the present attempt.
    fn executors(&self) -> Vec<Slot> {
        let by_executor: BTreeMap<&ExecutorId, &Slot> =
            self.scheduler.slots().iter().map(|slot| (&slot.executor, slot)).collect();
        by_executor.into_values().cloned().collect()
    }

    fn on_silence(&mut self, executor: ExecutorId, why: &Gone) {
        let runs = self.executors().iter().any(|slot| slot.executor == executor);
        if !runs || !matches!(self.scheduler.state(), JobState::Running | JobState::Deploying) {
            return;
        }
        tracing::warn!(job = %self.cx.graph.id, %executor, %why, "no heartbeat of its tasks");
        self.cx.resource_manager.lost(executor.clone());
        self.on(Event::ExecutorLost { executor });
    }

    fn publish(&self) {
        let ms = |at: Option<Duration>| at.map(|at| at.saturating_sub(self.cx.granted).as_secs_f64() * 1000.0);
        let overview = *self.cx.overview.borrow();
        let scheduler = &self.scheduler;
        self.status.send_modify(|status| {
            status.state = scheduler.state();
            status.attempt = scheduler.attempt();
            status.registered_task_executors = overview.task_executors;
            status.slots = overview.slots;
            status.started_ms = ms(overview.started);
            status.restored_checkpoint = scheduler.restored().map(|id| id.0);
            status.last_checkpoint = scheduler.checkpoints().newest().map(|newest| newest.id.0);
            status.completed_checkpoints = scheduler.checkpoints().completed_here();
            status.records_processed = self.records.values().sum();
            status.registered_ms = ms(self.registered);
            status.resumed_ms = ms(self.resumed);
            status.why = scheduler.why().map(str::to_owned);
        });
    }
}

async fn write_metadata(cx: &JobMasterContext, folder: &str, metadata: &CheckpointMetadata) -> Result<Payload, String> {
    let bytes = serde_json::to_vec(metadata).map_err(|error| error.to_string())?;
    let (storage, path, writer) = (cx.storage.clone(), format!("{folder}/metadata"), cx.world.random_u64());
    let written = cx.world.blocking("write metadata", move || storage.write(&path, &bytes, writer)).await;
    written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn deploy(
    cx: &JobMasterContext,
    attempt: AttemptId,
    task: TaskId,
    slot: &Slot,
    count_addresses: Vec<String>,
    restore: Option<CompletedCheckpoint>,
    known: Option<CheckpointMetadata>,
) -> Result<(), String> {
    let metadata = match restore {
        None => None,
        Some(completed) => match known.filter(|known| known.id == completed.id) {
            Some(known) => Some(known),
            None => Some(
                recovery::read_metadata(&cx.world, &cx.storage, &completed).await.map_err(|error| error.to_string())?,
            ),
        },
    };
    let index = usize::try_from(task.subtask).map_err(|error| error.to_string())?;
    let restore = match (&metadata, task.vertex) {
        (None, _) => None,
        (Some(metadata), Vertex::Source) => {
            let position = metadata.sources.get(index).ok_or("the checkpoint has no state of this source")?;
            Some(proto::submit_task_request::Restore::Source(convert::position_to(*position)))
        }
        (Some(metadata), Vertex::Count) => {
            let payload = metadata.counts.get(index).ok_or("the checkpoint has no state of this count")?;
            Some(proto::submit_task_request::Restore::Count(convert::payload_to(payload)))
        }
    };
    let request = proto::SubmitTaskRequest {
        attempt: Some(convert::attempt_to(&cx.graph.id, attempt)),
        task: Some(convert::task_to(task)),
        slot: slot.index,
        incarnation: slot.executor.incarnation,
        graph: Some(convert::payload_to(&cx.graph_payload)),
        job_master_address: cx.address.clone(),
        count_addresses,
        restore,
    };
    let gateway = cx.workers.at(&slot.address).await?;
    gateway.submit_task(request).await.map(|_| ()).map_err(|error| error.to_string())
}

/// What is left to do for a job whose result is stored: the pointer goes first, then the payloads, then the mark.
pub(crate) async fn clean_up(
    world: &World,
    store: &JobStore,
    storage: &StorageFolder,
    job: &JobId,
    result: &JobResult,
) -> Result<(), JobStoreError> {
    store.remove_checkpoints(job).await?;
    let kept: Vec<String> = result.parts.iter().map(|part| part.payload.path.clone()).collect();
    let (storage, folder) = (storage.clone(), format!("jobs/{job}"));
    let remove = move || {
        let mut failed = 0_u32;
        for name in storage.list(&folder).unwrap_or_default() {
            let attempt = format!("{folder}/{name}");
            if !kept.iter().any(|path| path.starts_with(&format!("{attempt}/"))) {
                failed += u32::from(storage.remove(&attempt).is_err());
                continue;
            }
            for name in storage.list(&attempt).unwrap_or_default() {
                if name != "result" {
                    failed += u32::from(storage.remove(&format!("{attempt}/{name}")).is_err());
                }
            }
        }
        failed
    };
    if world.blocking("clean-up", remove).await.unwrap_or(1) > 0 {
        tracing::warn!(%job, "some payloads of an ended job were not removed; the next leader tries again");
        return Ok(());
    }
    let clean = JobResult { dirty: false, ..result.clone() };
    store.put_result(job, &clean).await
}
