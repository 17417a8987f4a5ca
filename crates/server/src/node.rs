//! One coordination node: the order in which its parts start and stop. It holds no logic of its own.
//!
//! Clock, network, randomness and tasks come from a [`World`] and disks from [`Stores`], so that the simulation starts the
//! same node. Dropping a node ends its tasks at once, as a crash would; [`Node::shutdown`] ends it in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use palisade_metrics::Page;
use palisade_replica::{Gate, Replica, ReplicaConfig, ReplicaStatus};
use palisade_storage::{DataFolder, LogEngine, SnapshotStore};
use palisade_wire::coord::v1::cluster_service_server::ClusterServiceServer;
use palisade_wire::coord::v1::election_service_server::ElectionServiceServer;
use palisade_wire::coord::v1::kv_service_server::KvServiceServer;
use palisade_wire::coord::v1::watch_service_server::WatchServiceServer;
use palisade_wire::limits::MESSAGE_BYTES;
use palisade_world::{Task, World, grpc};
use tokio::sync::watch;

use crate::admission::{Admission, FRAME_BYTES, HEADER_BYTES, STREAMS_OF_CONNECTION};
use crate::api::Api;
use crate::audit::Audit;
use crate::backup::Places;
use crate::cluster_service::Cluster;
use crate::config::{ConfigError, NodeConfig};
use crate::connections::{self, Line};
use crate::election_service::Elections;
use crate::formation::Misfit;
use crate::forward::{Forwarder, Forwarding};
use crate::health::{self, Health, Served};
use crate::joining;
use crate::kv_service::Kv;
use crate::long_reads::LongReads;
use crate::machine::CoordMachine;
use crate::metrics::Sources;
use crate::proposer::Proposer;
use crate::sessions::{self, SessionSettings};
use crate::watch::{Room, Watches};
use crate::{confirmation, disk, founding, leadership_log, story};

/// How long a stopping node lets requests in flight finish before it cuts their connections.
const GRACE: Duration = Duration::from_millis(500);

/// How long a stopping node waits until nothing uses its disk any more.
const LET_GO: Duration = Duration::from_secs(2);

/// The disks of a node.
pub struct Stores {
    /// Log and vote.
    pub engine: Arc<dyn LogEngine>,
    /// Snapshots.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Names the data folder for life.
    pub store_id: u64,
    /// The folder, held locked while the node runs; `None` for simulated disks.
    pub folder: Option<DataFolder>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it was told cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It cannot listen there.
    #[error("--listen: '{address}': {error}")]
    Listen {
        /// Where.
        address: String,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// Its store cannot be used.
    #[error(transparent)]
    Replica(#[from] palisade_replica::StartError),
}

/// Why a running node must stop.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NodeFailed {
    /// It does not belong to the cluster.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// Its part in replication broke: what it would say could be wrong.
    #[error("replication stopped: {why}")]
    Replica {
        /// What broke.
        why: String,
    },
    /// A task that it cannot do without panicked.
    #[error("{task} ended: {why}")]
    Task {
        /// Which.
        task: &'static str,
        /// What it said.
        why: String,
    },
    /// It no longer serves.
    #[error("serving stopped: {why}")]
    Server {
        /// What broke.
        why: String,
    },
}

/// A running node.
pub struct Node {
    address: SocketAddr,
    sources: Sources,
    machine: Arc<CoordMachine>,
    replica: Replica<CoordMachine>,
    engine: Arc<dyn LogEngine>,
    failed: watch::Receiver<Option<NodeFailed>>,
    /// Says that no new connections are accepted, and then that those which are left are cut.
    stop: watch::Sender<Stop>,
    line: watch::Sender<Line>,
    server: Task<()>,
    /// The session driver: ended first, for a stream that breaks because the node stops is nobody's disconnect.
    sessions: Task<()>,
    tasks: Vec<Task<()>>,
    world: World,
    folder: Option<DataFolder>,
}

/// Looks on a running node, for metrics and health.
#[derive(Clone)]
pub struct Observer(Sources);

impl Observer {
    /// Writes what the node counts.
    pub fn write(&self, page: &mut Page) {
        self.0.write(page);
    }

    /// Why the node does not serve; empty: it does, or can name the node that does.
    pub fn problems(&self) -> Vec<String> {
        self.0.health.problems()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    No,
    Yes,
}

impl Node {
    /// Starts a node. It answers status and health from now on; whether it belongs to a cluster shows later
    /// ([`Node::wait_failed`]).
    ///
    /// Boxed, here and below, so that what a node is made of is compiled once, with this crate, and not again in every program
    /// that starts one.
    pub fn start(config: NodeConfig, stores: Stores, world: World) -> BoxFuture<'static, Result<Node, StartError>> {
        Node::start_audited(config, stores, None, world)
    }

    /// The same; `audit` sees everything that this node applies. For tests.
    pub fn start_audited(
        config: NodeConfig,
        stores: Stores,
        audit: Option<Arc<dyn Audit>>,
        world: World,
    ) -> BoxFuture<'static, Result<Node, StartError>> {
        Box::pin(Node::begin(config, stores, audit, world))
    }

    async fn begin(
        config: NodeConfig,
        stores: Stores,
        audit: Option<Arc<dyn Audit>>,
        world: World,
    ) -> Result<Node, StartError> {
        config.validate()?;
        let listener = world
            .bind(&config.listen)
            .await
            .map_err(|error| StartError::Listen { address: config.listen.clone(), error })?;
        let address = listener.local_addr();
        let Stores { engine, snapshots, store_id, folder } = stores;

        let machine = Arc::new(CoordMachine::knowing(config.level, audit, world.clone()));
        machine.metrics().found(engine.state().last.unwrap_or(0));
        let replica = Replica::start(
            replica_config(&config, store_id),
            Arc::clone(&engine),
            snapshots,
            Arc::clone(&machine),
            world.clone(),
        )
        .await?;
        let metrics = Arc::clone(machine.metrics());

        let (disk, disk_task) = disk::start(Arc::clone(&engine), replica.clone(), &world);
        let (proposer, pump) = Proposer::start(config.node_id, replica.clone(), &machine, disk.clone(), &world);
        let (touch, confirmation) = confirmation::start(config.node_id, replica.clone(), &world);
        let api = Api {
            machine: Arc::clone(&machine),
            replica: replica.clone(),
            proposer: proposer.clone(),
            touch: touch.clone(),
            long_reads: LongReads::new(),
            key_limits: config.key_limits,
            world: world.clone(),
        };
        let gate = Gate::closed();
        let (formation, joining) =
            joining::start(&config, store_id, gate.clone(), Arc::clone(&engine), &replica, &machine, &world);
        let health = Health { status: replica.status(), formation, disk, touch };
        // No other node can have won an election before a follower's longest wait is over.
        let election_timeout = config.timings.election_max * 2;
        let settings = SessionSettings { ttl: config.ttl.clone(), election_timeout, metrics: Arc::clone(&metrics) };
        let (line, line_watch) = watch::channel(Line::Open);
        let forwarder = Forwarder::new(config.node_id, replica.status(), line_watch.clone(), &world);
        let (session_service, sessions) = sessions::start(Arc::new(api.clone()), settings, forwarder.clone(), &world);
        let (reporter, health_service) = tonic_health::server::health_reporter();

        let (stop, stop_watch) = watch::channel(Stop::No);
        let (failing, failed) = watch::channel(None);
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(palisade_wire::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("the descriptors were made by the same build");
        let kv = KvServiceServer::new(Kv { api: api.clone() }).max_decoding_message_size(MESSAGE_BYTES);
        let elections =
            ElectionServiceServer::new(Elections { api: api.clone() }).max_decoding_message_size(MESSAGE_BYTES);
        let (api_, health_, backups) = (api.clone(), health.clone(), Places::new());
        let cluster = Cluster { node_id: config.node_id, commit: config.commit, api: api_, health: health_, backups };
        let cluster = ClusterServiceServer::new(cluster).max_decoding_message_size(MESSAGE_BYTES);
        let watches = WatchServiceServer::new(Watches { api: api.clone(), room: Room::new() });
        let admission = Admission::new(Arc::clone(&metrics));
        let mut served = Served::default();
        let router = grpc::server(&world)
            .max_concurrent_streams(STREAMS_OF_CONNECTION)
            .http2_max_header_list_size(HEADER_BYTES)
            .max_frame_size(FRAME_BYTES)
            .layer(admission.clone())
            .add_service(health_service)
            .add_service(reflection)
            .add_service(served.note(Forwarding::new(kv, &forwarder)))
            .add_service(served.note(Forwarding::new(elections, &forwarder)))
            .add_service(served.note(Forwarding::new(watches, &forwarder)))
            .add_service(served.note(Forwarding::new(cluster, &forwarder)))
            .add_service(served.note(Forwarding::new(session_service, &forwarder)))
            .add_service(replica.peer_service(gate));
        let connections = connections::bounded(
            listener,
            config.max_connections,
            Arc::clone(&metrics.connections),
            line_watch,
            world.clone(),
        );
        let stopped = async move {
            let mut stop = stop_watch;
            let _ = stop.wait_for(|stop| *stop == Stop::Yes).await;
        };
        let serving = router.serve_with_incoming_shutdown(connections, stopped);
        let server = world.spawn("server", serve(serving, failing.clone()));

        // A store leader without one of these would go on winning heartbeats and serve nobody.
        let vital = |task| vital(task, failing.clone(), &world);
        let sessions = vital(sessions);
        let tasks = vec![
            vital(pump),
            vital(disk_task),
            vital(confirmation),
            vital(founding::start(&replica, &machine, proposer.clone(), &world)),
            leadership_log::start(config.node_id, &replica, &machine, &world),
            story::start(config.node_id, &replica, &machine, &world),
            health::report(health.clone(), served, reporter, &world),
            vital(joining),
            watch_failure(health.clone(), failing.clone(), &world),
        ];
        let sources = Sources {
            node_id: config.node_id,
            commit: config.commit,
            machine: Arc::clone(&machine),
            replica: replica.clone(),
            proposer,
            admission,
            health,
            log: engine.metrics(),
        };
        Ok(Node {
            address,
            sources,
            machine,
            replica,
            engine,
            failed,
            stop,
            line,
            server,
            sessions,
            tasks,
            world,
            folder,
        })
    }

    /// Looks on while the node runs. Let go of it before the node is shut down.
    pub fn observer(&self) -> Observer {
        Observer(self.sources.clone())
    }

    /// Where it listens, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What this node knows about itself and who leads the store.
    pub fn status(&self) -> watch::Receiver<ReplicaStatus> {
        self.replica.status()
    }

    /// Asks another node to take the leadership of the store over, if this one has it. Returns whether this node gave it up.
    pub fn hand_over_to(&self, node_id: u64) -> BoxFuture<'_, bool> {
        Box::pin(self.replica.hand_over_to(node_id))
    }

    /// Waits until the node must stop, and says why. Cancelling it is harmless.
    pub async fn wait_failed(&mut self) -> NodeFailed {
        let gone = || NodeFailed::Server { why: "its tasks ended".to_owned() };
        match self.failed.wait_for(Option::is_some).await {
            Ok(failed) => failed.clone().unwrap_or_else(gone),
            Err(_) => gone(),
        }
    }

    /// Ends the node: sessions are let go (which releases nobody), leadership of the store is handed over, replication
    /// stops, requests in flight get a moment, and the disks are closed.
    pub fn shutdown(self) -> BoxFuture<'static, ()> {
        Box::pin(self.end())
    }

    async fn end(self) {
        let Node { sources, machine, replica, engine, stop, line, server, sessions, tasks, world, folder, .. } = self;
        end(sessions).await;
        machine.hub().close();
        // While it still answers the others: a store leader hands over.
        replica.shutdown().await;
        let _ = stop.send(Stop::Yes);
        let finished = world.timeout(GRACE, server).await;
        let _ = line.send(Line::Cut);
        if finished.is_none() {
            tracing::debug!("requests were cut off at shutdown");
        }
        for task in tasks {
            end(task).await;
        }
        drop((sources, machine, replica));
        // Connections that were cut give up what they hold at their next step.
        let let_go = world.now() + LET_GO;
        while Arc::strong_count(&engine) > 1 && world.now() < let_go {
            world.sleep(Duration::from_millis(1)).await;
        }
        drop(engine);
        drop(folder);
        tracing::info!("the node has stopped");
    }
}

fn replica_config(config: &NodeConfig, store_id: u64) -> ReplicaConfig {
    ReplicaConfig {
        node_id: config.node_id,
        store_id,
        process: config.process,
        address: config.advertise.clone(),
        timings: config.timings.clone(),
        snapshot_every: config.snapshot_every,
    }
}

async fn end(task: Task<()>) {
    task.abort();
    let _ = task.await; // aborted is what was asked for
}

async fn serve(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    failing: watch::Sender<Option<NodeFailed>>,
) {
    if let Err(error) = serving.await {
        failing.send_replace(Some(NodeFailed::Server { why: error.to_string() }));
    }
}

/// Stops the node if a task of it panics. The task ends with the handle that is given back.
fn vital(task: Task<()>, failing: watch::Sender<Option<NodeFailed>>, world: &World) -> Task<()> {
    world.spawn("vital", async move {
        let name = task.name();
        if let Err(ended) = task.await
            && let Some(why) = ended.panic
        {
            tracing::error!(task = name, why, "the node must stop");
            failing.send_replace(Some(NodeFailed::Task { task: name, why }));
        }
    })
}

/// Passes on what stops a node.
fn watch_failure(health: Health, failing: watch::Sender<Option<NodeFailed>>, world: &World) -> Task<()> {
    let Health { mut status, mut formation, .. } = health;
    world.spawn("failure", async move {
        let failed = tokio::select! {
            Ok(status) = status.wait_for(|status| status.fatal.is_some()) => {
                NodeFailed::Replica { why: status.fatal.clone().unwrap_or_default() }
            }
            Ok(formation) = formation.wait_for(|formation| formation.misfit().is_some()) => {
                match formation.misfit() {
                    Some(misfit) => NodeFailed::Misfit(misfit.clone()),
                    None => return,
                }
            }
            else => return,
        };
        tracing::error!(%failed, "the node must stop");
        failing.send_replace(Some(failed));
    })
}
