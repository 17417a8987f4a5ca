//! A cluster in one process: real nodes on real disks and real loopback sockets, under names instead of ports.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use palisade_server::{Node, NodeConfig, NodeFailed, StartError, Stores, Timings};
use palisade_storage::{DataFolder, FileSnapshots, SledEngine, SledOptions};
use palisade_wire::coord::v1::cluster_service_client::ClusterServiceClient;
use palisade_wire::coord::v1::election_service_client::ElectionServiceClient;
use palisade_wire::coord::v1::kv_service_client::KvServiceClient;
use palisade_wire::coord::v1::session_service_client::SessionServiceClient;
use palisade_wire::coord::v1::{StatusReply, StatusRequest};
use palisade_wire::metadata;
use palisade_world::{BootClock, Random, SeededRandom, World, grpc};
use tempfile::TempDir;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::net::{Loopback, Names};

/// How long a condition may take to come about before a test gives up. Generous: a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Slower than the default: many clusters run beside each other here, and an election that nobody asked for would be taken
/// for a failure.
const PATIENT: Timings = Timings {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(400),
    election_max: Duration::from_millis(800),
};

/// Nodes 1 to `n`, each with a folder.
pub(crate) struct Cluster {
    /// Dropped before their folders.
    pub(crate) nodes: BTreeMap<u64, Node>,
    /// Of the clients.
    pub(crate) world: World,
    pub(crate) net: Arc<Names>,
    random: Arc<SeededRandom>,
    pub(crate) folders: TempDir,
    pub(crate) initial: Vec<(u64, String)>,
}

pub(crate) fn name(id: u64) -> String {
    format!("node-{id}:7070")
}

impl Cluster {
    /// Names and folders, and nothing running. `seed` fixes everything random but the scheduling.
    pub(crate) fn new(size: u64, seed: u64) -> Cluster {
        let net = Arc::default();
        let random = Arc::new(SeededRandom::new(seed));
        let world = world_of(&net, "client", &random);
        let initial = (1..=size).map(|id| (id, name(id))).collect();
        Cluster { world, net, random, folders: TempDir::new().unwrap(), initial, nodes: BTreeMap::new() }
    }

    /// The world as somebody of this name sees it.
    pub(crate) fn world_of(&self, who: &str) -> World {
        world_of(&self.net, who, &self.random)
    }

    /// All running.
    pub(crate) async fn start(size: u64, seed: u64) -> Cluster {
        let mut cluster = Cluster::new(size, seed);
        for id in 1..=size {
            cluster.start_node(id).await;
        }
        cluster
    }

    pub(crate) fn folder(&self, id: u64) -> std::path::PathBuf {
        self.folders.path().join(id.to_string())
    }

    pub(crate) fn config(&self, id: u64) -> NodeConfig {
        NodeConfig { timings: PATIENT, ..NodeConfig::new(id, name(id), self.initial.clone()) }
    }

    pub(crate) async fn start_node(&mut self, id: u64) {
        let config = self.config(id);
        let node = self.try_start(config, &self.folder(id)).await.unwrap_or_else(|error| panic!("node {id}: {error}"));
        self.nodes.insert(id, node);
    }

    /// Whether nobody has a node's folder open.
    pub(crate) fn is_free(&self, id: u64) -> bool {
        DataFolder::open(self.folder(id), 1)
            .is_ok_and(|folder| SledEngine::open(&folder, SledOptions::default()).is_ok())
    }

    pub(crate) async fn try_start(&self, config: NodeConfig, folder: &Path) -> Result<Node, StartError> {
        let world = world_of(&self.net, &config.advertise, &self.random);
        Node::start(config, open(folder, &world), world).await
    }

    pub(crate) async fn stop_node(&mut self, id: u64) {
        self.nodes.remove(&id).expect("it runs").shutdown().await;
    }

    pub(crate) async fn stop_all(&mut self) {
        join_all(std::mem::take(&mut self.nodes).into_values().map(Node::shutdown)).await;
    }

    pub(crate) fn channel(&self, id: u64) -> Channel {
        grpc::channel(&self.world, &name(id)).unwrap()
    }

    pub(crate) fn kv(&self, id: u64) -> KvServiceClient<Channel> {
        KvServiceClient::new(self.channel(id))
    }

    pub(crate) fn elections(&self, id: u64) -> ElectionServiceClient<Channel> {
        ElectionServiceClient::new(self.channel(id))
    }

    pub(crate) fn sessions(&self, id: u64) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel(id))
    }

    /// The nodes that do not lead the store, once each knows who does.
    pub(crate) async fn followers(&self, leader: u64) -> Vec<u64> {
        let followers: Vec<u64> = self.nodes.keys().copied().filter(|id| *id != leader).collect();
        for id in &followers {
            self.until("a follower that knows the store leader", async || {
                (self.status(*id).await?.store_leader?.node_id == leader).then_some(())
            })
            .await;
        }
        followers
    }

    pub(crate) async fn status(&self, id: u64) -> Option<StatusReply> {
        let mut client = ClusterServiceClient::new(self.channel(id));
        let asked = self.world.timeout(Duration::from_secs(2), client.status(StatusRequest {})).await?;
        Some(asked.ok()?.into_inner())
    }

    /// Waits until one of the running nodes serves as the store leader of a founded cluster.
    pub(crate) async fn leader(&self) -> u64 {
        self.until("a store leader", async || {
            for id in self.nodes.keys() {
                let Some(status) = self.status(*id).await else { continue };
                let leads = status.store_leader.as_ref().is_some_and(|leader| leader.node_id == *id);
                let founded = status.header.is_some_and(|header| header.cluster_id != 0);
                if leads && founded && status.role == "leader" {
                    return Some(*id);
                }
            }
            None
        })
        .await
    }

    /// Waits for a condition, with a bound.
    pub(crate) async fn until<T>(&self, what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
        let give_up = self.world.now() + PATIENCE;
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            assert!(self.world.now() < give_up, "waited {PATIENCE:?} for {what}");
            self.world.sleep(Duration::from_millis(5)).await;
        }
    }

    /// Why a node stopped by itself.
    pub(crate) async fn failure(&self, node: &mut Node) -> NodeFailed {
        self.world.timeout(PATIENCE, node.wait_failed()).await.expect("the node finds out that it must stop")
    }
}

fn world_of(net: &Arc<Names>, who: &str, random: &Arc<SeededRandom>) -> World {
    let net = Loopback { names: Arc::clone(net), from: who.to_owned() };
    World::new(Arc::new(BootClock), Arc::clone(random) as Arc<dyn Random>, Arc::new(net))
}

/// For the node that gets it, which is not to ask another.
pub(crate) fn itself<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(metadata::FORWARD, MetadataValue::from_static(metadata::NO));
    request
}

/// Bounds a wait of a test.
pub(crate) async fn soon<T>(world: &World, what: &str, future: impl Future<Output = T>) -> T {
    world.timeout(PATIENCE, future).await.unwrap_or_else(|| panic!("waited {PATIENCE:?} for {what}"))
}

fn open(folder: &Path, world: &World) -> Stores {
    let folder = DataFolder::open(folder, world.random_u64()).expect("the folder opens");
    let engine = SledEngine::open(&folder, SledOptions::default()).expect("the engine opens");
    let snapshots = FileSnapshots::open(&folder).expect("the snapshots open");
    Stores {
        store_id: folder.store_id(),
        engine: Arc::new(engine),
        snapshots: Arc::new(snapshots),
        folder: Some(folder),
    }
}
