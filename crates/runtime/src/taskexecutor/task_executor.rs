//! The TaskExecutor process: slots and tasks for whoever leads. It follows the election from leader to leader and never exits
//! because one is missing.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use palisade_client::{Client, ClientConfig, ConfigError};
use palisade_fence::{ClusterId, LeaderSource, LeaderView, Token};
use palisade_rpc::{EndpointHandle, GuardFile, GuardFileError, GuardSpec, Guards, RpcService, RpcServiceConfig};
use palisade_world::{Listener, Task, World};
use tokio::sync::watch;

use super::config::TaskExecutorConfig;
use super::counters::Counters;
use super::endpoint::TaskExecutorState;
use super::exchange_client::ExchangeClient;
use super::exchange_server::ExchangeServer;
use super::gate::Gates;
use super::links::Links;
use super::registration::{Description, Registrar};
use super::task_manager::{Shared, TaskManager};
use crate::introspection::{self, Introspection};
use crate::jobmaster::task::ExecutorId;
use crate::observing::{Following, TaskExecutorObserver};
use crate::proto::data_exchange_server::DataExchangeServer;
use crate::proto::{IntrospectionGateway, TaskExecutorGateway};
use crate::resourcemanager::slot_manager::SLOTS_MAX;
use crate::storage::{StorageError, StorageFolder};

/// Id of the endpoint.
const TASK_EXECUTOR: &str = "taskexecutor";

/// A request of the follower must not outlive the pause until the next try.
const REQUEST: std::time::Duration = std::time::Duration::from_secs(5);

/// One record of the longest length with its frame.
const MESSAGE_MAX: usize = 4 << 20;

/// Why a TaskExecutor could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TaskExecutorStartError {
    /// The store's addresses.
    #[error(transparent)]
    Client(#[from] ConfigError),
    /// The storage folder.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The listening address.
    #[error(transparent)]
    Rpc(#[from] palisade_rpc::StartError),
    /// The address of the data exchange.
    #[error("data exchange: listen on {address}: {error}")]
    Data {
        /// What was tried.
        address: String,
        /// The operating system's words.
        error: std::io::Error,
    },
    /// The guard cannot be read: a worker that may have forgotten a token must not serve.
    #[error("data folder: {0}")]
    Guard(#[from] GuardFileError),
    /// The number of slots.
    #[error("slots: {0} is not from 1 to {SLOTS_MAX}")]
    Slots(u32),
    /// An endpoint.
    #[error("{0}")]
    Endpoint(String),
}

/// A running TaskExecutor. Dropping it ends it at once, as a crash would; [`TaskExecutor::shutdown`] does it in order.
pub struct TaskExecutor {
    service: RpcService,
    data_address: String,
    observer: TaskExecutorObserver,
    stop: watch::Sender<Stop>,
    main: Task<()>,
    _data: Task<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    Yes,
}

/// What the main task needs.
struct Process {
    config: TaskExecutorConfig,
    service: RpcService,
    follower: Arc<dyn LeaderSource>,
    guards: Guards,
    description: Description,
    gates: Gates,
    storage: StorageFolder,
    counters: Counters,
    /// With whom it is registered.
    registered: watch::Sender<Option<Token>>,
    /// For the data exchange, which serves before the cluster is known: nobody knows its address before.
    cluster: watch::Sender<Option<ClusterId>>,
    world: World,
}

impl TaskExecutor {
    /// Starts it: it listens when this returns, and looks for a leader in the background.
    ///
    /// Boxed, here and below, so that what a TaskExecutor is made of is compiled once, with this crate, and not again in every program
    /// that starts one.
    pub fn start(
        config: TaskExecutorConfig,
        world: World,
    ) -> BoxFuture<'static, Result<TaskExecutor, TaskExecutorStartError>> {
        Box::pin(async move {
            let client = ClientConfig { endpoints: config.endpoints.clone(), request_timeout: REQUEST };
            let follower = Arc::new(Client::new(client, world.clone())?.follow(&config.election));
            TaskExecutor::begin(config, follower, world).await
        })
    }

    /// As [`TaskExecutor::start`], with an election of the caller's.
    pub fn start_following(
        config: TaskExecutorConfig,
        follower: Arc<dyn LeaderSource>,
        world: World,
    ) -> BoxFuture<'static, Result<TaskExecutor, TaskExecutorStartError>> {
        Box::pin(TaskExecutor::begin(config, follower, world))
    }

    async fn begin(
        config: TaskExecutorConfig,
        follower: Arc<dyn LeaderSource>,
        world: World,
    ) -> Result<TaskExecutor, TaskExecutorStartError> {
        if !(1..=SLOTS_MAX).contains(&config.slots) {
            return Err(TaskExecutorStartError::Slots(config.slots));
        }
        let storage = StorageFolder::open(world.files(), &config.storage)?;
        let guard = GuardFile::open(world.files(), &config.data)?;
        let mut rpc = RpcServiceConfig::listen(config.listen.clone())
            .interface::<TaskExecutorGateway>()
            .interface::<IntrospectionGateway>();
        if let Some(advertise) = &config.advertise {
            rpc = rpc.advertise(advertise.clone());
        }
        let service = RpcService::start(rpc, world.clone()).await?;
        let counters = Counters::default();
        introspection::start(&service, Introspection { rpc: service.counters(), own: counters.clone() })
            .await
            .map_err(|error| TaskExecutorStartError::Endpoint(error.to_string()))?;
        let spec = GuardSpec { source: follower.clone(), cluster: None, durable: Some(Arc::new(guard)) };
        let guards =
            Guards::new(vec![spec], &world).map_err(|error| TaskExecutorStartError::Endpoint(error.to_string()))?;

        let listener = bind_data(&config, &world).await?;
        let data_address = format!("{}:{}", host(service.node()), listener.local_addr().port());
        let gates = Gates::default();
        let (cluster, known) = watch::channel(None);
        let exchange = ExchangeServer {
            gates: gates.clone(),
            election: config.election.clone(),
            cluster: known,
            counters: counters.clone(),
            world: world.clone(),
        };
        let data = world.spawn("data-exchange", serve(listener, exchange));
        let description = Description {
            executor: ExecutorId { name: config.id.clone(), incarnation: world.random_u64() },
            address: format!("{}/{TASK_EXECUTOR}", service.node()),
            data_address: data_address.clone(),
            slots: config.slots,
        };
        let (registered, registered_with) = watch::channel(None);
        let observer = TaskExecutorObserver {
            rpc: service.counters(),
            following: Following(follower.clone()),
            registered: registered_with,
            counters: counters.clone(),
            slots: config.slots,
        };
        let process = Process {
            config,
            service: service.clone(),
            follower,
            guards,
            description,
            gates,
            storage,
            counters,
            registered,
            cluster,
            world: world.clone(),
        };
        let (stop, stopped) = watch::channel(Stop::No);
        let main = world.spawn("task-executor", run(process, stopped));
        Ok(TaskExecutor { service, data_address, observer, stop, main, _data: data })
    }

    /// `host:port` that others reach it at.
    pub fn address(&self) -> &str {
        self.service.node()
    }

    /// `host:port` of its data exchange.
    pub fn data_address(&self) -> &str {
        &self.data_address
    }

    /// Looks on while it runs.
    pub fn observer(&self) -> TaskExecutorObserver {
        self.observer.clone()
    }

    /// Ends it in order: tells its leader, ends its tasks, closes.
    pub fn shutdown(self) -> BoxFuture<'static, ()> {
        Box::pin(self.end())
    }

    async fn end(self) {
        self.stop.send_replace(Stop::Yes);
        let _ = self.main.await;
        if let Err(error) = self.service.close().await {
            tracing::warn!(%error, "the RPC service ended badly");
        }
    }
}

/// The host part of `host:port`.
fn host(node: &str) -> &str {
    node.rsplit_once(':').map_or(node, |(host, _)| host)
}

async fn bind_data(config: &TaskExecutorConfig, world: &World) -> Result<Listener, TaskExecutorStartError> {
    let address = format!("{}:0", host(&config.listen));
    world.bind(&address).await.map_err(|error| TaskExecutorStartError::Data { address, error })
}

async fn serve(listener: Listener, exchange: ExchangeServer) {
    let mut server = palisade_world::grpc::server(&exchange.world);
    let router = server.add_service(DataExchangeServer::new(exchange).max_decoding_message_size(MESSAGE_MAX));
    if let Err(error) = router.serve_with_incoming(palisade_world::grpc::incoming(listener)).await {
        tracing::error!(%error, "the data exchange ended");
    }
}

async fn run(process: Process, mut stop: watch::Receiver<Stop>) {
    let first = tokio::select! {
        view = first_view(&process) => view,
        _ = stop.wait_for(|stop| *stop == Stop::Yes) => return,
    };
    process.cluster.send_replace(Some(first.cluster));
    let links =
        Links { service: process.service.clone(), cluster: first.cluster, election: process.config.election.clone() };
    // Held here: when this task is dropped, everything that runs under it ends.
    let (tasks, _actor) = TaskManager::start(process.shared(first.cluster, links.clone()));
    let endpoint = match process.start_endpoint(&tasks).await {
        Ok(endpoint) => endpoint,
        Err(why) => {
            tracing::error!(why, "the TaskExecutor's endpoint did not start");
            return;
        }
    };
    let registrar = Registrar {
        description: process.description.clone(),
        service: process.service.clone(),
        follower: process.follower.clone(),
        tasks: tasks.clone(),
        endpoint: endpoint.clone(),
        registered: process.registered.clone(),
        world: process.world.clone(),
    };
    let registered = registrar.start();
    let mut view = first;
    loop {
        // Nobody leads: tasks go on.
        if let Some(token) = view.token
            && let Err(error) = endpoint.run_async(move |state, _| state.accept(token))
        {
            tracing::error!(%error, "the TaskExecutor's endpoint is overloaded or gone");
        }
        tokio::select! {
            next = process.follower.changed(view.seq) => view = next,
            _ = stop.wait_for(|stop| *stop == Stop::Yes) => break,
        }
    }
    registered.disconnect();
    tasks.end_all().await;
    endpoint.stop();
    let _ = endpoint.terminated().await;
}

/// The first view that names the cluster: one from before the cluster was founded does not.
async fn first_view(process: &Process) -> LeaderView {
    let mut seen = 0;
    loop {
        let view = process.follower.changed(seen).await;
        if view.cluster != ClusterId::default() {
            return view;
        }
        seen = view.seq;
    }
}

impl Process {
    fn shared(&self, cluster: ClusterId, links: Links) -> Shared {
        Shared {
            executor: self.description.executor.clone(),
            gates: self.gates.clone(),
            exchange: ExchangeClient {
                gates: self.gates.clone(),
                own_address: self.description.data_address.clone(),
                election: self.config.election.clone(),
                cluster,
                world: self.world.clone(),
                connections: Arc::default(),
            },
            storage: self.storage.clone(),
            counters: self.counters.clone(),
            world: self.world.clone(),
            links,
        }
    }

    async fn start_endpoint(&self, tasks: &TaskManager) -> Result<EndpointHandle<TaskExecutorState>, String> {
        let state = TaskExecutorState {
            executor: self.description.executor.clone(),
            slots: vec![None; usize::try_from(self.description.slots).expect("checked at the start")],
            tasks: tasks.clone(),
            counters: self.counters.clone(),
            leader: None,
            world: self.world.clone(),
        };
        let endpoint = self
            .service
            .endpoint(TASK_EXECUTOR, state)
            .serves(TaskExecutorGateway::serve())
            .guarded_by(self.guards.clone())
            .create()
            .map_err(|error| error.to_string())?;
        endpoint.start().await.map_err(|error| error.to_string())?;
        Ok(endpoint)
    }
}
