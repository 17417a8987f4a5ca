//! All jobs of a cluster under one leadership: takes them up at the start, takes new ones, answers for them.
//!
//! It keeps true: a job is stored before it is acknowledged, and one that has a result is never run again. Submissions are
//! taken one at a time, because the index of jobs is one value.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use palisade_fence::Fence;
use palisade_rpc::{AppError, LeaderSeat, RpcService};
use palisade_world::{Files, Task, World};
use tokio::sync::{mpsc, oneshot, watch};

use super::config::Heartbeats;
use super::owned_endpoint::OwnedEndpoint;
use crate::convert::code;
use crate::ha::{JobRecord, JobStore, JobStoreError, StoredJob};
use crate::job::{InputError, JobGraph, JobId, JobResult, JobSpec, JobState, JobStatus, list_input};
use crate::jobmaster::scheduler::Event;
use crate::jobmaster::workers::Workers;
use crate::jobmaster::{Command, JobMaster, JobMasterContext, JobMasterHandle, clean_up};
use crate::proto::JobMasterGateway;
use crate::resourcemanager::{Overview, ResourceManagerHandle};
use crate::storage::{Payload, StorageError, StorageFolder};

/// Submissions that may wait.
const SUBMISSIONS: usize = 256;
/// Jobs that are taken up at the same time by a new leader.
const AT_ONCE: usize = 16;
/// A piece of a result in one answer.
const PIECE_BYTES: usize = 512 << 10;

/// What all jobs of a leadership share.
pub(crate) struct Leading {
    pub(crate) service: RpcService,
    pub(crate) seat: LeaderSeat,
    pub(crate) fence: Fence,
    pub(crate) store: JobStore,
    pub(crate) storage: StorageFolder,
    pub(crate) resource_manager: ResourceManagerHandle,
    pub(crate) overview: watch::Receiver<Overview>,
    pub(crate) workers: Workers,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) granted: Duration,
    /// Why this leadership cannot go on.
    pub(crate) fatal: watch::Sender<Option<String>>,
    pub(crate) world: World,
}

/// A job as the Dispatcher knows it.
enum Known {
    Running {
        master: JobMasterHandle,
        endpoint: OwnedEndpoint<JobMaster>,
    },
    /// It had ended before this leadership.
    Ended {
        name: String,
        result: JobResult,
        _clean_up: Option<Task<()>>,
    },
    /// It cannot be taken up here and now.
    Broken {
        name: String,
        why: String,
    },
}

type Submission = (JobId, JobSpec, oneshot::Sender<Result<bool, AppError>>);

/// The jobs. Cheap to clone; everything ends with the last clone.
#[derive(Clone)]
pub(crate) struct Jobs {
    leading: Arc<Leading>,
    known: Arc<Mutex<BTreeMap<JobId, Known>>>,
    submissions: mpsc::Sender<Submission>,
    _submitter: Arc<Task<()>>,
}

impl Jobs {
    /// Reads what is stored and takes every job up that has no result.
    pub(crate) async fn recover(leading: Arc<Leading>) -> Result<Jobs, JobStoreError> {
        let stored = leading.store.jobs().await?;
        let taken = futures_util::stream::iter(stored)
            .map(|job| async { (job.id.clone(), take_up(&leading, job).await) })
            .buffer_unordered(AT_ONCE)
            .collect::<BTreeMap<_, _>>();
        let known = Arc::new(Mutex::new(taken.await));
        let (submissions, received) = mpsc::channel(SUBMISSIONS);
        let submitter = leading.world.spawn("submitter", submit_all(leading.clone(), known.clone(), received));
        Ok(Jobs { leading, known, submissions, _submitter: Arc::new(submitter) })
    }

    /// Stores a job and starts it. Returns whether it was known.
    pub(crate) async fn submit(&self, id: JobId, spec: JobSpec) -> Result<bool, AppError> {
        let (reply, answer) = oneshot::channel();
        let ending = || AppError::new(code::FAILED, "this leadership is ending");
        self.submissions.send((id, spec, reply)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?
    }

    pub(crate) fn list(&self) -> Vec<JobStatus> {
        lock(&self.known).iter().map(|(id, known)| self.status_of(id, known)).collect()
    }

    pub(crate) fn status(&self, id: &JobId) -> Result<JobStatus, AppError> {
        lock(&self.known).get(id).map(|known| self.status_of(id, known)).ok_or_else(|| no_such_job(id))
    }

    /// How a job ended.
    pub(crate) fn result(&self, id: &JobId) -> Result<JobResult, AppError> {
        match lock(&self.known).get(id) {
            None => Err(no_such_job(id)),
            Some(Known::Ended { result, .. }) => Ok(result.clone()),
            Some(Known::Running { master, .. }) => {
                let result = master.result().borrow().clone();
                result.ok_or_else(|| AppError::new(code::NO_RESULT, format!("job {id} has not ended")))
            }
            Some(Known::Broken { why, .. }) => Err(AppError::new(code::FAILED, why.clone())),
        }
    }

    /// A piece of one part of a result; empty at its end.
    pub(crate) async fn fetch(&self, id: &JobId, part: u32, offset: u64) -> Result<Vec<u8>, AppError> {
        let result = self.result(id)?;
        let part = usize::try_from(part).ok().and_then(|part| result.parts.get(part));
        let payload = part.map(|part| part.payload.clone());
        let payload = payload.ok_or_else(|| AppError::new(code::INVALID, "part: the result has no such part"))?;
        let storage = self.leading.storage.clone();
        let world = &self.leading.world;
        let read = world.blocking("read result", move || storage.read_at(&payload, offset, PIECE_BYTES)).await;
        let failed = |why: String| AppError::new(code::FAILED, why);
        read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    /// Cancels a job; returns once it is stored that it ended, one way or another.
    pub(crate) async fn cancel(&self, id: &JobId) -> Result<JobStatus, AppError> {
        let running = match lock(&self.known).get(id) {
            None => return Err(no_such_job(id)),
            Some(Known::Broken { why, .. }) => return Err(AppError::new(code::FAILED, why.clone())),
            Some(Known::Ended { .. }) => None,
            Some(Known::Running { master, .. }) => Some((master.commands(), master.result())),
        };
        if let Some((commands, mut result)) = running {
            let _ = commands.send(Command::Event(Event::CancelRequested)).await;
            let ended = result.wait_for(Option::is_some).await;
            ended.map_err(|_| AppError::new(code::FAILED, "this leadership is ending"))?;
        }
        self.status(id)
    }

    /// Closes the fences of all JobMasters: the first thing on the way down.
    pub(crate) fn close_fences(&self) {
        for known in lock(&self.known).values() {
            if let Known::Running { endpoint, .. } = known {
                endpoint.close_fence();
            }
        }
    }

    /// Ends everything; returns when the endpoints are gone.
    pub(crate) async fn stop(self) {
        let known = std::mem::take(&mut *lock(&self.known));
        let mut endpoints = Vec::new();
        for job in known.into_values() {
            if let Known::Running { endpoint, .. } = job {
                endpoint.stop();
                endpoints.push(endpoint);
            }
        }
        for endpoint in endpoints {
            let _ = endpoint.terminated().await;
        }
    }

    /// Looks at the jobs, and keeps nothing alive.
    pub(crate) fn view(&self) -> JobsView {
        JobsView(Arc::downgrade(&self.known))
    }

    fn status_of(&self, id: &JobId, known: &Known) -> JobStatus {
        let overview = *self.leading.overview.borrow();
        let still = |name: &String, state: JobState, why: Option<String>| JobStatus {
            id: id.clone(),
            name: name.clone(),
            state,
            token: self.leading.fence.token.get(),
            attempt: 0,
            registered_task_executors: overview.task_executors,
            slots: overview.slots,
            restored_checkpoint: None,
            last_checkpoint: None,
            completed_checkpoints: 0,
            records_processed: 0,
            started_ms: overview.started.map(|at| at.saturating_sub(self.leading.granted).as_secs_f64() * 1000.0),
            registered_ms: None,
            resumed_ms: None,
            why,
        };
        match known {
            Known::Running { master, .. } => master.status(),
            Known::Ended { name, result, .. } => still(name, result.state, result.why.clone()),
            Known::Broken { name, why } => still(name, JobState::Restarting, Some(why.clone())),
        }
    }
}

/// Looks at the jobs of a leadership.
#[derive(Clone)]
pub(crate) struct JobsView(Weak<Mutex<BTreeMap<JobId, Known>>>);

impl JobsView {
    /// The state of each.
    pub(crate) fn states(&self) -> Vec<JobState> {
        let Some(known) = self.0.upgrade() else { return Vec::new() };
        let state = |known: &Known| match known {
            Known::Running { master, .. } => master.status().state,
            Known::Ended { result, .. } => result.state,
            Known::Broken { .. } => JobState::Restarting,
        };
        let known = lock(&known);
        known.values().map(state).collect()
    }
}

fn lock(known: &Mutex<BTreeMap<JobId, Known>>) -> std::sync::MutexGuard<'_, BTreeMap<JobId, Known>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_such_job(id: &JobId) -> AppError {
    AppError::new(code::NO_SUCH_JOB, format!("job id: '{id}' is not known"))
}

async fn take_up(leading: &Arc<Leading>, job: StoredJob) -> Known {
    let StoredJob { id, record, result } = job;
    let name = record.spec.name.clone();
    if let Some(result) = result {
        // Never run again; only what its leader had no time for is done.
        let unfinished = result.clone();
        let clean_up = result.dirty.then(|| {
            let leading = leading.clone();
            leading.world.clone().spawn("clean-up", async move {
                if let Err(error) = clean_up(&leading.world, &leading.store, &leading.storage, &id, &unfinished).await {
                    tracing::warn!(job = %id, %error, "the next leader finishes the clean-up");
                }
            })
        });
        return Known::Ended { name, result, _clean_up: clean_up };
    }
    match run(leading, record).await {
        Ok(running) => running,
        Err(why) => {
            tracing::error!(job = %id, why, "the job cannot be taken up");
            Known::Broken { name, why }
        }
    }
}

/// Starts a JobMaster and its endpoint.
async fn run(leading: &Arc<Leading>, record: JobRecord) -> Result<Known, String> {
    let storage = leading.storage.clone();
    let payload = record.graph.clone();
    let read = leading.world.blocking("read graph", move || storage.read(&payload)).await;
    let bytes = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let graph: JobGraph = serde_json::from_slice(&bytes).map_err(|error| format!("job graph: {error}"))?;
    let endpoint_id = format!("jobmaster-{}", graph.id);
    let context = |address: String| JobMasterContext {
        graph: Arc::new(graph),
        graph_payload: record.graph.clone(),
        fence: leading.fence.clone(),
        store: leading.store.clone(),
        storage: leading.storage.clone(),
        resource_manager: leading.resource_manager.clone(),
        workers: leading.workers.clone(),
        address,
        heartbeats: leading.heartbeats,
        granted: leading.granted,
        overview: leading.overview.clone(),
        fatal: leading.fatal.clone(),
        world: leading.world.clone(),
    };
    let address = palisade_rpc::RpcAddress::new(leading.service.node(), endpoint_id.clone())
        .map_err(|error| error.to_string())?;
    let (commands, master) = crate::jobmaster::start(context(address.to_string()));
    let make = || {
        let endpoint = leading.service.endpoint(endpoint_id.clone(), JobMaster { commands: commands.clone() });
        endpoint.serves(JobMasterGateway::serve()).leads(leading.seat.clone())
    };
    let endpoint = OwnedEndpoint::create(&leading.world, make).await.map_err(|error| error.to_string())?;
    endpoint.start().await.map_err(|error| error.to_string())?;
    Ok(Known::Running { master, endpoint })
}

async fn submit_all(
    leading: Arc<Leading>,
    known: Arc<Mutex<BTreeMap<JobId, Known>>>,
    mut received: mpsc::Receiver<Submission>,
) {
    while let Some((id, spec, reply)) = received.recv().await {
        let _ = reply.send(submit(&leading, &known, id, spec).await);
    }
}

async fn submit(
    leading: &Arc<Leading>,
    known: &Mutex<BTreeMap<JobId, Known>>,
    id: JobId,
    spec: JobSpec,
) -> Result<bool, AppError> {
    if lock(known).contains_key(&id) {
        return Ok(true);
    }
    spec.check().map_err(|error| AppError::new(code::INVALID, error.to_string()))?;
    let (storage, token, writer) = (leading.storage.clone(), leading.fence.token, leading.world.random_u64());
    let (job, described) = (id.clone(), spec.clone());
    let files = leading.world.files();
    let write = move || write_graph(&*files, &storage, job, described, &format!("graph-{token}"), writer);
    let graph = leading
        .world
        .blocking("write graph", write)
        .await
        .map_err(|error| AppError::new(code::FAILED, error.to_string()))??;
    let record = JobRecord { spec, graph, submitted_unix_ms: leading.world.unix_ms() };
    leading.store.add(&id, &record).await.map_err(|error| match error {
        JobStoreError::TooMany => AppError::new(code::TOO_MANY, error.to_string()),
        other => AppError::new(code::FAILED, other.to_string()),
    })?;
    tracing::info!(job = %id, fence = %leading.fence, name = record.spec.name, "a job is stored");
    let name = record.spec.name.clone();
    let running = run(leading, record).await.unwrap_or_else(|why| Known::Broken { name, why });
    lock(known).insert(id, running);
    Ok(false)
}

/// Fixes the input and writes the graph. Blocking.
fn write_graph(
    files: &dyn Files,
    storage: &StorageFolder,
    id: JobId,
    spec: JobSpec,
    name: &str,
    writer: u64,
) -> Result<Payload, AppError> {
    let files = list_input(files, &spec.input)
        .map_err(|error: InputError| AppError::new(code::BAD_INPUT, error.to_string()))?;
    let path = format!("jobs/{id}/{name}");
    let graph = JobGraph::new(id, spec, files);
    let bytes = serde_json::to_vec(&graph).map_err(|error| AppError::new(code::FAILED, error.to_string()))?;
    storage.write(&path, &bytes, writer).map_err(|error: StorageError| AppError::new(code::FAILED, error.to_string()))
}
