//! `palisade server`: opens the data folder and runs one node until SIGTERM or Ctrl-C.

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use palisade_server::{Node, NodeConfig, Stores};
use palisade_storage::{DataFolder, FileSnapshots, SledEngine, SledOptions};
use palisade_wire::convert::KeyLimits;
use palisade_world::World;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ServerArgs;
use crate::exit::Failure;
use crate::ops;

/// Files that a node opens beside its clients' connections: the store, logs, and its own connections to the others.
const OTHER_FILES: u64 = 512;

pub(crate) async fn run(args: ServerArgs, world: World) -> Result<(), Failure> {
    let config = NodeConfig { process: world.random_u64(), ..config(&args)? };
    warn_if_open(&args.listen);
    let stores = open(&args, &world)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let metrics_world = world.clone();
    let mut node = Node::start(config, stores, world).await.map_err(|error| Failure::failed(error.to_string()))?;
    // The one line that programs wait for.
    eprintln!("palisade: node {} listens on {}", args.id, node.address());
    let folders = vec![ops::Folder { name: "data", path: args.data.clone(), walk: true }];
    let name = format!("node {}", args.id);
    let metrics = ops::start(args.metrics.as_deref(), &name, node.observer(), folders, &metrics_world).await;
    let metrics = match metrics {
        Ok(metrics) => metrics,
        Err(failure) => {
            node.shutdown().await;
            return Err(failure);
        }
    };
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = tokio::signal::ctrl_c() => None,
        why = node.wait_failed() => Some(why),
    };
    metrics.end().await;
    node.shutdown().await;
    match failed {
        None => Ok(()),
        Some(why) => Err(Failure::failed(why.to_string())),
    }
}

fn config(args: &ServerArgs) -> Result<NodeConfig, Failure> {
    let mut initial = Vec::new();
    // A file that all nodes share may name the first ones; whoever joins is none of them.
    let named = if args.join.is_empty() { args.initial.as_slice() } else { &[] };
    for entry in named {
        let parsed = entry
            .split_once('=')
            .and_then(|(id, address)| Some((id.trim().parse::<u64>().ok()?, address.trim().to_owned())));
        let Some((id, address)) = parsed else {
            return Err(Failure::usage("--initial", entry.clone(), "expected ID=HOST:PORT, the id a number from 1"));
        };
        initial.push((id, address));
    }
    let mut config = NodeConfig::new(args.id, args.listen.clone(), initial);
    config.commit = crate::build_info::COMMIT;
    config.join.clone_from(&args.join);
    if let Some(advertise) = &args.advertise {
        config.advertise.clone_from(advertise);
    }
    config.ttl = args.min_ttl..=args.max_ttl;
    config.key_limits = KeyLimits {
        key_bytes: args.max_key_bytes,
        value_bytes: args.max_value_bytes,
        txn_ops: args.max_txn_ops,
        request_bytes: args.max_request_bytes,
    };
    config.max_connections = connections(config.max_connections);
    #[cfg(feature = "planted")]
    {
        config.level = other_version()?.unwrap_or(config.level);
    }
    config.validate().map_err(|error| Failure::usage(error.field, error.value, error.limit))?;
    Ok(config)
}

/// Only in builds that prove the checks: a node that takes itself for one of another version.
#[cfg(feature = "planted")]
pub(crate) fn other_version() -> Result<Option<u32>, Failure> {
    let Ok(level) = std::env::var("PALISADE_LEVEL") else { return Ok(None) };
    let bad = |_| Failure::usage("PALISADE_LEVEL", level.clone(), "expected a number");
    level.parse().map(Some).map_err(bad)
}

/// As many connections as wanted, or as the process may open files; its own limit is raised as far as the system allows. A node
/// that runs out of files could not write its log.
fn connections(wanted: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return wanted };
    let files = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    // At least some: with fewer, accepting fails, which is logged.
    let room = usize::try_from(files.saturating_sub(OTHER_FILES).max(files / 2)).unwrap_or(wanted);
    if room < wanted {
        tracing::info!(files, connections = room, "the limit on open files bounds the connections");
    }
    wanted.min(room)
}

fn open(args: &ServerArgs, world: &World) -> Result<Stores, Failure> {
    let lost = |error: &dyn std::fmt::Display| Failure::failed(format!("--data '{}': {error}", args.data.display()));
    let folder = DataFolder::open(&args.data, world.random_u64()).map_err(|error| lost(&error))?;
    let options = SledOptions::default();
    let reserve_bytes = options.reserve_bytes;
    let engine = SledEngine::open(&folder, options).map_err(|error| lost(&error))?;
    let snapshots = FileSnapshots::open_beside(&folder, reserve_bytes).map_err(|error| lost(&error))?;
    Ok(Stores {
        store_id: folder.store_id(),
        engine: Arc::new(engine),
        snapshots: Arc::new(snapshots),
        folder: Some(folder),
    })
}

pub(crate) fn warn_if_open(listen: &str) {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    if !matches!(host, "127.0.0.1" | "localhost" | "[::1]") {
        eprintln!(
            "palisade: warning: listening on {listen}: there is no authentication yet, anybody who can connect can do anything"
        );
    }
}
