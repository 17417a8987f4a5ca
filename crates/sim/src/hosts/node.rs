//! A node: the real server on a simulated disk. The disk outlives the process; what was not synced may not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palisade_server::{Node, NodeConfig, Stores};
use palisade_storage::{SimDisk, SimEngine, SimSnapshots};

use super::{PORT, addresses, node_name};
use crate::trace::Trace;
use crate::world::{Traffic, simulated};

/// What of a node outlives its process.
#[derive(Clone)]
pub struct Machine {
    /// Which node.
    pub node: usize,
    /// Its disk.
    pub disk: SimDisk,
    /// The store id in its data folder.
    pub store_id: u64,
    /// How often it was started.
    pub starts: Arc<AtomicU64>,
    /// The seed of the run.
    pub seed: u64,
    /// Time between two syncs.
    pub sync_every: Duration,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
}

/// Raft's timers in the simulation: its latencies are a hundred times those of loopback.
const HEARTBEAT: Duration = Duration::from_millis(50);
const ELECTION: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(400));

/// Runs until the host is crashed.
pub async fn run(machine: Machine, traffic: Traffic, trace: Trace) -> turmoil::Result {
    let start = machine.starts.fetch_add(1, Ordering::Relaxed);
    let name = node_name(machine.node);
    let seed = machine.seed ^ ((machine.node as u64) << 32) ^ (start << 48);
    let world = simulated(seed, &traffic);
    let disk = machine.disk.clone();
    let pump = {
        let (disk, world, every) = (disk.clone(), world.clone(), machine.sync_every);
        world.clone().spawn("disk", async move {
            loop {
                world.sleep(every).await;
                disk.sync();
            }
        })
    };
    let initial = addresses().into_iter().enumerate().map(|(at, address)| (at as u64 + 1, address)).collect();
    let mut config = NodeConfig::new(machine.node as u64, format!("{name}:{PORT}"), initial);
    config.timings.heartbeat = HEARTBEAT;
    (config.timings.election_min, config.timings.election_max) = ELECTION;
    config.snapshot_every = machine.snapshot_every;
    let stores = Stores {
        store_id: machine.store_id,
        engine: Arc::new(SimEngine::open(&disk)?),
        snapshots: Arc::new(SimSnapshots::open(&disk)?),
        folder: None,
    };
    let mut node = Node::start(config, stores, world).await?;
    trace.line(&name, format_args!("started ({start})"));
    let why = node.wait_failed().await;
    trace.line(&name, format_args!("failed: {why}"));
    drop(pump);
    Err(format!("{name} failed: {why}").into())
}
