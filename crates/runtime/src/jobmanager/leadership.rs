//! One leadership: starts its components, proclaims their address, ends them in order.
//!
//! Nothing of one leadership reaches the next: the components are new each time, and the next ones start only when the last
//! ones are gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use palisade_client::{Client, ElectionFollower, Leadership, Session, Value};
use palisade_fence::{ClusterId, LeaderSource};
use palisade_rpc::{EndpointHandle, LeaderSeat, RpcService};
use palisade_world::World;

use super::config::JobManagerConfig;
use super::dispatcher::Dispatcher;
use super::jobs::{Jobs, Leading};
use super::palisade_store::PalisadeStore;
use crate::ha::JobStore;
use crate::jobmaster::workers::Workers;
use crate::proto::{DispatcherGateway, ResourceManagerGateway};
use crate::resourcemanager::{self, ResourceManager};
use crate::storage::StorageFolder;

/// Ids of the endpoints; the proclaimed value names their addresses.
pub(crate) const DISPATCHER: &str = "dispatcher";
/// As above.
pub(crate) const RESOURCE_MANAGER: &str = "resourcemanager";

/// Pause before the proclamation is tried again.
const PROCLAIM_AGAIN: Duration = Duration::from_millis(20);

/// What a JobManager has for life.
pub(super) struct Process {
    pub(super) config: JobManagerConfig,
    pub(super) service: RpcService,
    pub(super) client: Client,
    pub(super) follower: Arc<ElectionFollower>,
    pub(super) storage: StorageFolder,
    pub(super) world: World,
}

/// The components of one leadership.
pub(super) struct Components {
    jobs: Jobs,
    dispatcher: EndpointHandle<Dispatcher>,
    resource_manager: EndpointHandle<ResourceManager>,
    _actor: palisade_world::Task<()>,
}

/// Why the components could not be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeadError {
    #[error(transparent)]
    Store(#[from] crate::ha::JobStoreError),
    #[error(transparent)]
    Create(#[from] palisade_rpc::CreateError),
    #[error(transparent)]
    Start(#[from] palisade_rpc::EndpointFailure),
    #[error("the election could not be read: {0}")]
    Election(#[from] palisade_fence::source::Unreachable),
}

impl Process {
    /// Starts everything that runs while this process leads.
    pub(super) async fn start_components(
        &self,
        leadership: &Leadership,
        session: &Session,
        granted: Duration,
    ) -> Result<Components, LeadError> {
        let fence = leadership.fence();
        let cluster = self.cluster().await?;
        let source: Arc<dyn LeaderSource> = self.follower.clone();
        let seat = LeaderSeat { cluster, election: fence.election.clone(), token: fence.token, source: Some(source) };
        let workers = Workers::new(self.service.clone(), cluster, fence.clone());
        let heartbeats = self.config.heartbeats;
        let (handle, overview, actor) = resourcemanager::start(workers.clone(), heartbeats, &self.world);
        let store = PalisadeStore::new(self.client.clone(), session.clone(), self.world.clone());
        let leading = Leading {
            service: self.service.clone(),
            seat: seat.clone(),
            fence: fence.clone(),
            store: JobStore::new(Arc::new(store), fence.clone(), self.world.clone()),
            storage: self.storage.clone(),
            resource_manager: handle.clone(),
            overview: overview.clone(),
            workers,
            heartbeats,
            granted,
            world: self.world.clone(),
        };
        let jobs = Jobs::recover(Arc::new(leading)).await?;
        let manager = ResourceManager { handle: handle.clone(), overview, heartbeats, world: self.world.clone() };
        let resource_manager = self
            .service
            .endpoint(RESOURCE_MANAGER, manager)
            .serves(ResourceManagerGateway::serve())
            .leads(seat.clone())
            .create()?;
        let dispatcher = self
            .service
            .endpoint(DISPATCHER, Dispatcher { jobs: jobs.clone() })
            .serves(DispatcherGateway::serve())
            .leads(seat)
            .create()?;
        let components = Components { jobs, dispatcher, resource_manager, _actor: actor };
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

    /// Tells observers where the components are, now that they have started. Repeated until it is known; ends with the
    /// leadership.
    pub(super) async fn proclaim(&self, leadership: &Leadership) {
        let node = self.service.node().to_owned();
        let mut components = BTreeMap::new();
        for endpoint in [DISPATCHER, RESOURCE_MANAGER] {
            components.insert(endpoint.to_owned(), format!("{node}/{endpoint}"));
        }
        let value = Value { address: node, components, data: Vec::new() };
        while let Err(error) = leadership.proclaim(value.clone()).await {
            tracing::warn!(fence = %leadership.fence(), %error, "proclaiming again");
            self.world.sleep(PROCLAIM_AGAIN).await;
        }
    }

    async fn cluster(&self) -> Result<ClusterId, palisade_fence::source::Unreachable> {
        match self.follower.latest() {
            Some(view) => Ok(view.cluster),
            None => Ok(self.follower.read().await?.cluster),
        }
    }
}

impl Components {
    /// The first thing on the way down: from now on nothing fenced is answered.
    pub(super) fn close_fences(&self) {
        self.dispatcher.close_fence();
        self.resource_manager.close_fence();
        self.jobs.close_fences();
    }

    /// Ends them; returns when they are gone.
    pub(super) async fn stop(self) {
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
    pub(super) async fn replaced(&self) {
        tokio::select! {
            _ = self.dispatcher.replaced() => {}
            _ = self.resource_manager.replaced() => {}
        }
    }

    /// Resolves when a component has ended by itself: it panicked.
    pub(super) async fn failed(&self) {
        tokio::select! {
            _ = self.dispatcher.terminated() => {}
            _ = self.resource_manager.terminated() => {}
        }
    }
}
