//! `palisade jobmanager` and `palisade taskexecutor`: start one, run until SIGTERM or Ctrl-C, end in order.

use std::path::Path;
use std::time::Duration;

use palisade_runtime::{JobManager, JobManagerConfig, TaskExecutor, TaskExecutorConfig};
use palisade_world::World;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Global, JobmanagerArgs, TaskexecutorArgs};
use crate::exit::Failure;
use crate::ops::{self, Folder};

/// An orderly end that takes longer than this is cut short.
const SAFEGUARD: Duration = Duration::from_secs(5);

pub(crate) async fn jobmanager(args: JobmanagerArgs, global: &Global, world: World) -> Result<(), Failure> {
    make_folder("--storage", &args.storage)?;
    crate::server::warn_if_open(&args.listen);
    let storage = args.storage.clone();
    let mut config = JobManagerConfig::new(args.id.clone(), args.storage, global.endpoints.clone());
    config.listen = args.listen;
    config.advertise = args.advertise;
    config.election = args.election;
    config.ttl = args.ttl;
    config.release_after = args.release_after;
    let mut terminate = signal(SignalKind::terminate())?;
    let process = JobManager::start(config, world.clone()).await.map_err(|error| Failure::failed(error.to_string()))?;
    // The one line that programs wait for.
    eprintln!("palisade: jobmanager {} listens on {}", args.id, process.address());
    let folders = vec![Folder { name: "storage", path: storage, walk: false }];
    let name = format!("jobmanager {}", args.id);
    let metrics = ops::start(args.metrics.as_deref(), &name, process.observer(), folders, &world).await?;
    let interrupted = asked_to_stop(&mut terminate).await;
    metrics.end().await;
    within_safeguard(process.shutdown(), &world).await?;
    if interrupted { Err(Failure { message: String::new(), ..Failure::interrupted() }) } else { Ok(()) }
}

pub(crate) async fn taskexecutor(args: TaskexecutorArgs, global: &Global, world: World) -> Result<(), Failure> {
    make_folder("--storage", &args.storage)?;
    make_folder("--data", &args.data)?;
    crate::server::warn_if_open(&args.listen);
    let (storage, data) = (args.storage.clone(), args.data.clone());
    let mut config = TaskExecutorConfig::new(args.id.clone(), args.storage, args.data, global.endpoints.clone());
    config.listen = args.listen;
    config.advertise = args.advertise;
    config.slots = args.slots;
    config.election = args.election;
    let mut terminate = signal(SignalKind::terminate())?;
    let process =
        TaskExecutor::start(config, world.clone()).await.map_err(|error| Failure::failed(error.to_string()))?;
    eprintln!("palisade: taskexecutor {} listens on {}", args.id, process.address());
    let folders =
        vec![Folder { name: "storage", path: storage, walk: false }, Folder { name: "data", path: data, walk: true }];
    let name = format!("taskexecutor {}", args.id);
    let metrics = ops::start(args.metrics.as_deref(), &name, process.observer(), folders, &world).await?;
    let interrupted = asked_to_stop(&mut terminate).await;
    metrics.end().await;
    within_safeguard(process.shutdown(), &world).await?;
    if interrupted { Err(Failure { message: String::new(), ..Failure::interrupted() }) } else { Ok(()) }
}

fn make_folder(field: &str, path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|error| Failure::usage(field, path.display().to_string(), error.to_string()))
}

/// Whether it was Ctrl-C.
async fn asked_to_stop(terminate: &mut tokio::signal::unix::Signal) -> bool {
    tokio::select! {
        _ = terminate.recv() => false,
        _ = tokio::signal::ctrl_c() => true,
    }
}

async fn within_safeguard(shutdown: impl Future<Output = ()>, world: &World) -> Result<(), Failure> {
    match world.timeout(SAFEGUARD, shutdown).await {
        Some(()) => Ok(()),
        None => Err(Failure::failed(format!("the orderly end took longer than {SAFEGUARD:?} and was cut short"))),
    }
}
