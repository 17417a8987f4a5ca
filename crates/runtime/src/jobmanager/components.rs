//! The components of one leadership: starts them, names their addresses, ends them in order.
//!
//! Nothing of one leadership reaches the next: the components are new each time, and the next ones start only when the last
//! ones are gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use palisade_fence::{ClusterId, Fence, LeaderSource};
use palisade_rpc::{LeaderSeat, RpcService};
use palisade_world::{Task, World};
use tokio::sync::watch;

use super::config::Heartbeats;
use super::dispatcher::Dispatcher;
use super::jobs::{Jobs, JobsView, Leading};
use super::owned_endpoint::OwnedEndpoint;
use crate::ha::{HaStore, JobStore, JobStoreError};
use crate::job::JobState;
use crate::jobmaster::workers::Workers;
use crate::observing::JobManagerFigures;
use crate::proto::{DispatcherGateway, ResourceManagerGateway};
use crate::resourcemanager::{self, Overview, ResourceManager};
use crate::storage::StorageFolder;

/// Ids of the endpoints; the proclaimed value names their addresses.
pub(crate) const DISPATCHER: &str = "dispatcher";
/// As above.
pub(crate) const RESOURCE_MANAGER: &str = "resourcemanager";

/// One leadership, and what its components work with.
#[derive(Clone)]
pub struct Office {
    /// Where the endpoints live.
    pub service: RpcService,
    /// The cluster that granted it.
    pub cluster: ClusterId,
    /// Election and token.
    pub fence: Fence,
    /// Where to learn that it was replaced.
    pub source: Arc<dyn LeaderSource>,
    /// The coordination store.
    pub store: Arc<dyn HaStore>,
    /// The storage folder.
    pub storage: StorageFolder,
    /// Heartbeats with TaskExecutors.
    pub heartbeats: Heartbeats,
    /// When it was granted, on the world's clock.
    pub granted: Duration,
    /// The world.
    pub world: World,
}

/// The running components of one leadership.
pub struct Components {
    jobs: Jobs,
    dispatcher: OwnedEndpoint<Dispatcher>,
    resource_manager: OwnedEndpoint<ResourceManager>,
    fatal: watch::Sender<Option<String>>,
    overview: watch::Receiver<Overview>,
    node: String,
    _actor: Task<()>,
}

/// Looks at the work of one leadership, and keeps nothing alive.
#[derive(Clone)]
pub(crate) struct WorkView {
    overview: watch::Receiver<Overview>,
    jobs: JobsView,
}

impl WorkView {
    /// No job in any state.
    pub(crate) fn states() -> BTreeMap<&'static str, u64> {
        JobState::ALL.iter().map(|state| (state.name(), 0)).collect()
    }

    pub(crate) fn fill(&self, figures: JobManagerFigures) -> JobManagerFigures {
        let Overview { task_executors, slots, free_slots, .. } = *self.overview.borrow();
        let mut jobs = WorkView::states();
        for state in self.jobs.states() {
            *jobs.entry(state.name()).or_default() += 1;
        }
        JobManagerFigures {
            task_executors: task_executors.into(),
            slots: slots.into(),
            free_slots: free_slots.into(),
            jobs,
            ..figures
        }
    }
}

/// Why the components could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ComponentsError {
    /// The records of jobs.
    #[error(transparent)]
    Store(#[from] JobStoreError),
    /// An endpoint of an earlier leadership is still there.
    #[error(transparent)]
    Create(#[from] palisade_rpc::CreateError),
    /// An endpoint did not start.
    #[error(transparent)]
    Start(#[from] palisade_rpc::EndpointFailure),
}

impl Components {
    /// Takes up all jobs and starts everything that runs while this process leads. Dropping the future ends what it started.
    pub async fn start(office: Office) -> Result<Components, ComponentsError> {
        let Office { service, cluster, fence, source, store, storage, heartbeats, granted, world } = office;
        let seat = LeaderSeat { cluster, election: fence.election.clone(), token: fence.token, source: Some(source) };
        let workers = Workers::new(service.clone(), cluster, fence.clone());
        let (handle, overview, actor) = resourcemanager::start(workers.clone(), heartbeats, &world);
        let fatal = watch::Sender::new(None);
        let leading = Leading {
            service: service.clone(),
            seat: seat.clone(),
            fence: fence.clone(),
            store: JobStore::new(store, fence, world.clone()),
            storage,
            resource_manager: handle.clone(),
            overview: overview.clone(),
            workers,
            heartbeats,
            granted,
            fatal: fatal.clone(),
            world: world.clone(),
        };
        let jobs = Jobs::recover(Arc::new(leading)).await?;
        let manager = || {
            let (handle, overview) = (handle.clone(), overview.clone());
            let state = ResourceManager { handle, overview, heartbeats, world: world.clone() };
            let endpoint = service.endpoint(RESOURCE_MANAGER, state);
            endpoint.serves(ResourceManagerGateway::serve()).leads(seat.clone())
        };
        let resource_manager = OwnedEndpoint::create(&world, manager).await?;
        let dispatcher = || {
            let endpoint = service.endpoint(DISPATCHER, Dispatcher { jobs: jobs.clone() });
            endpoint.serves(DispatcherGateway::serve()).leads(seat.clone())
        };
        let dispatcher = OwnedEndpoint::create(&world, dispatcher).await?;
        let node = service.node().to_owned();
        let components = Components { jobs, dispatcher, resource_manager, fatal, overview, node, _actor: actor };
        let started = async {
            components.resource_manager.start().await?;
            components.dispatcher.start().await
        };
        if let Err(failure) = started.await {
            components.close_fences();
            components.stop().await;
            return Err(failure.into());
        }
        handle.started();
        Ok(components)
    }

    /// Looks at its work.
    pub(crate) fn work(&self) -> WorkView {
        WorkView { overview: self.overview.clone(), jobs: self.jobs.view() }
    }

    /// `host:port` of the process.
    pub fn address(&self) -> &str {
        &self.node
    }

    /// Addresses by component, to be proclaimed now that they have started.
    pub fn addresses(&self) -> BTreeMap<String, String> {
        let address = |endpoint: &str| (endpoint.to_owned(), format!("{}/{endpoint}", self.node));
        [DISPATCHER, RESOURCE_MANAGER].map(address).into()
    }

    /// The first thing on the way down: from now on nothing fenced is answered.
    pub fn close_fences(&self) {
        self.dispatcher.close_fence();
        self.resource_manager.close_fence();
        self.jobs.close_fences();
    }

    /// Ends them; returns when they are gone.
    pub async fn stop(self) {
        self.dispatcher.stop();
        self.resource_manager.stop();
        self.jobs.stop().await;
        for ended in [self.dispatcher.terminated().await, self.resource_manager.terminated().await] {
            if let Err(failure) = ended {
                tracing::warn!(%failure, "a component ended badly");
            }
        }
    }

    /// Resolves when a component has learnt of a later leadership.
    pub async fn replaced(&self) {
        tokio::select! {
            _ = self.dispatcher.replaced() => {}
            _ = self.resource_manager.replaced() => {}
        }
    }

    /// Resolves when this leadership cannot go on, with the reason: a component panicked, or a write was refused as stale.
    pub async fn failed(&self) -> String {
        let mut fatal = self.fatal.subscribe();
        tokio::select! {
            ended = self.dispatcher.terminated() => format!("the Dispatcher ended: {ended:?}"),
            ended = self.resource_manager.terminated() => format!("the ResourceManager ended: {ended:?}"),
            why = fatal.wait_for(Option::is_some) => match why {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_) => "the components are gone".to_owned(),
            },
        }
    }
}
