//! The JobManager process: campaigns; while it leads, its components run; when it is replaced, it campaigns again.
//!
//! It never exits because the store is away. It keeps true the order of an orderly end: close the fences, then resign, then
//! tear down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use palisade_client::{
    CampaignOptions, Client, ClientConfig, ConfigError, ElectionFollower, EndRequest, Leadership, LostWhy,
    OnDisconnect, Session, SessionOptions, Value,
};
use palisade_fence::{ClusterId, LeaderSource, LeaderView, Token};
use palisade_rpc::{Backoff, RpcService, RpcServiceConfig};
use palisade_world::{Task, World};
use tokio::sync::watch;

use super::components::{Components, DISPATCHER, Office, RESOURCE_MANAGER, WorkView};
use super::config::JobManagerConfig;
use super::palisade_store::PalisadeStore;
use crate::introspection::{self, Introspection};
use crate::observing::{Following, JobManagerObserver};
use crate::proto::{DispatcherGateway, IntrospectionGateway, JobMasterGateway, ResourceManagerGateway};
use crate::storage::{StorageError, StorageFolder};
use crate::taskexecutor::Counters;

/// A write is repeated under its request id until its outcome is known, so its limit is longer than any session lives without
/// its store.
const REQUEST: Duration = Duration::from_secs(24 * 3600);
/// Pause before the proclamation is tried again.
const PROCLAIM_AGAIN: Duration = Duration::from_millis(20);
/// A resignation that the store does not answer must not hold up the end; the session's end hands over then.
const RESIGN: Duration = Duration::from_secs(2);

/// Why a JobManager could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store's addresses.
    #[error(transparent)]
    Client(#[from] ConfigError),
    /// The storage folder.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The listening address.
    #[error(transparent)]
    Rpc(#[from] palisade_rpc::StartError),
    /// An endpoint that runs whether it leads or not.
    #[error("{0}")]
    Endpoint(String),
}

/// A running JobManager. Dropping it ends it at once, as a crash would; [`JobManager::shutdown`] does it in order.
pub struct JobManager {
    service: RpcService,
    stop: watch::Sender<Stop>,
    leads: watch::Receiver<Option<Token>>,
    observer: JobManagerObserver,
    main: Task<()>,
}

/// What a JobManager has for life.
struct Process {
    config: JobManagerConfig,
    service: RpcService,
    client: Client,
    follower: Arc<ElectionFollower>,
    storage: StorageFolder,
    /// For those who look on.
    work: watch::Sender<Option<WorkView>>,
    leaderships: Arc<AtomicU64>,
    world: World,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    Yes,
}

impl JobManager {
    /// Starts it: it listens when this returns, and campaigns in the background.
    ///
    /// Boxed, here and below, so that what a JobManager is made of is compiled once, with this crate, and not again in every program
    /// that starts one.
    pub fn start(config: JobManagerConfig, world: World) -> BoxFuture<'static, Result<JobManager, StartError>> {
        Box::pin(JobManager::begin(config, world))
    }

    async fn begin(config: JobManagerConfig, world: World) -> Result<JobManager, StartError> {
        let client =
            Client::new(ClientConfig { endpoints: config.endpoints.clone(), request_timeout: REQUEST }, world.clone())?;
        let storage = StorageFolder::open(world.files(), &config.storage)?;
        let mut rpc = RpcServiceConfig::listen(config.listen.clone())
            .interface::<DispatcherGateway>()
            .interface::<ResourceManagerGateway>()
            .interface::<JobMasterGateway>()
            .interface::<IntrospectionGateway>();
        if let Some(advertise) = &config.advertise {
            rpc = rpc.advertise(advertise.clone());
        }
        let service = RpcService::start(rpc, world.clone()).await?;
        let follower = Arc::new(client.follow(&config.election));
        let source: Arc<dyn LeaderSource> = follower.clone();
        service.declare::<DispatcherGateway>(DISPATCHER, Some(source.clone()));
        service.declare::<ResourceManagerGateway>(RESOURCE_MANAGER, Some(source));
        let introspection = Introspection { rpc: service.counters(), own: Counters::default() };
        introspection::start(&service, introspection).await.map_err(|error| StartError::Endpoint(error.to_string()))?;

        let (stop, stopped) = watch::channel(Stop::No);
        let (leading, leads) = watch::channel(None);
        let (work, work_view) = watch::channel(None);
        let leaderships = Arc::<AtomicU64>::default();
        let observer = JobManagerObserver {
            rpc: service.counters(),
            following: Following(follower.clone()),
            leads: leads.clone(),
            work: work_view,
            leaderships: leaderships.clone(),
        };
        let process = Process {
            config,
            service: service.clone(),
            client,
            follower,
            storage,
            work,
            leaderships,
            world: world.clone(),
        };
        let main = world.spawn("job-manager", run(process, stopped, leading));
        Ok(JobManager { service, stop, leads, observer, main })
    }

    /// `host:port` that others reach it at.
    pub fn address(&self) -> &str {
        self.service.node()
    }

    /// The token under which its components run; `None` while it does not lead.
    pub fn leads(&self) -> watch::Receiver<Option<Token>> {
        self.leads.clone()
    }

    /// Looks on while it runs.
    pub fn observer(&self) -> JobManagerObserver {
        self.observer.clone()
    }

    /// Ends it in order: closes the fences, resigns, tears down.
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

async fn run(process: Process, mut stop: watch::Receiver<Stop>, leads: watch::Sender<Option<Token>>) {
    let mut pauses = Backoff::default();
    loop {
        let opened = tokio::select! {
            opened = open_session(&process) => opened,
            _ = stop.wait_for(|stop| *stop == Stop::Yes) => return,
        };
        match opened {
            Ok(session) => {
                let ended = campaign(&process, &session, &mut stop, &leads).await;
                leads.send_replace(None);
                process.work.send_replace(None);
                // Ends what this session still holds, so that the store need not wait for its TTL.
                let _ = process.world.timeout(RESIGN, session.close()).await;
                match ended {
                    Campaigned::Stopped => return,
                    Campaigned::Led => pauses.reset(),
                    Campaigned::Failed => {}
                }
            }
            Err(error) => tracing::warn!(%error, "no session; trying again"),
        }
        process.world.sleep(pauses.pause(&process.world)).await;
    }
}

async fn open_session(process: &Process) -> Result<Session, palisade_client::Error> {
    let on_disconnect = OnDisconnect::ReleaseAfter(process.config.release_after);
    process
        .client
        .open_session(SessionOptions { ttl: process.config.ttl, on_disconnect, ..SessionOptions::default() })
        .await
}

/// How a campaign ended.
enum Campaigned {
    Stopped,
    Led,
    /// It came to nothing; the next one waits longer.
    Failed,
}

/// Campaigns once; leads until that is over.
async fn campaign(
    process: &Process,
    session: &Session,
    stop: &mut watch::Receiver<Stop>,
    leads: &watch::Sender<Option<Token>>,
) -> Campaigned {
    let campaign = CampaignOptions {
        election: process.config.election.clone(),
        candidate_id: process.config.id.clone(),
        // No address before the components have started.
        value: Value::default(),
        priority: 0,
    };
    let leadership = tokio::select! {
        elected = session.campaign(campaign) => match elected {
            Ok(leadership) => leadership,
            Err(error) => {
                tracing::warn!(%error, "the campaign ended; campaigning again");
                return Campaigned::Failed;
            }
        },
        _ = stop.wait_for(|stop| *stop == Stop::Yes) => return Campaigned::Stopped,
    };
    let granted = process.world.now();
    let fence = leadership.fence();
    process.leaderships.fetch_add(1, Ordering::Relaxed);
    tracing::info!(
        election = fence.election,
        token = fence.token.get(),
        candidate = process.config.id,
        session = session.id(),
        "leadership granted"
    );
    let starting = process.start_components(&leadership, session, granted);
    let components = tokio::select! {
        started = starting => match started {
            Ok(components) => components,
            Err(error) => {
                tracing::error!(%fence, %error, "the components did not start; resigning");
                let _ = process.world.timeout(RESIGN, leadership.resign()).await;
                return Campaigned::Failed;
            }
        },
        why = leadership.lost() => {
            tracing::warn!(%fence, %why, "leadership lost while its components started");
            return Campaigned::Led;
        }
    };
    leads.send_replace(Some(fence.token));
    process.work.send_replace(Some(components.work()));
    let end = lead(process, &leadership, &components, stop).await;
    tracing::info!(%fence, ?end, "leadership ends");
    components.close_fences();
    leads.send_replace(None);
    process.work.send_replace(None);
    if !matches!(end, End::Lost(_)) {
        let _ = process.world.timeout(RESIGN, leadership.resign()).await;
    }
    components.stop().await;
    match end {
        End::Stopped => Campaigned::Stopped,
        End::Asked(_) | End::Lost(_) | End::Replaced | End::Failed(_) => Campaigned::Led,
    }
}

#[derive(Debug)]
enum End {
    Stopped,
    /// Somebody else is to lead.
    Asked(#[allow(dead_code)] EndRequest), // read by Debug, for the log
    Lost(#[allow(dead_code)] LostWhy), // read by Debug, for the log
    Replaced,
    Failed(#[allow(dead_code)] String), // read by Debug, for the log
}

async fn lead(
    process: &Process,
    leadership: &Leadership,
    components: &Components,
    stop: &mut watch::Receiver<Stop>,
) -> End {
    let proclaim = async {
        process.proclaim(leadership, components).await;
        tracing::info!(fence = %leadership.fence(), address = process.service.node(), "address proclaimed");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = proclaim => End::Failed("it stopped proclaiming".to_owned()),
        why = leadership.lost() => End::Lost(why),
        asked = leadership.end_requested() => End::Asked(asked),
        () = components.replaced() => End::Replaced,
        why = components.failed() => End::Failed(why),
        _ = stop.wait_for(|stop| *stop == Stop::Yes) => End::Stopped,
    }
}

impl Process {
    async fn start_components(
        &self,
        leadership: &Leadership,
        session: &Session,
        granted: Duration,
    ) -> Result<Components, String> {
        let cluster = self.cluster().await?;
        let store = PalisadeStore::new(self.client.clone(), session.clone(), self.world.clone());
        let office = Office {
            service: self.service.clone(),
            cluster,
            fence: leadership.fence(),
            source: self.follower.clone(),
            store: Arc::new(store),
            storage: self.storage.clone(),
            heartbeats: self.config.heartbeats,
            granted,
            world: self.world.clone(),
        };
        Components::start(office).await.map_err(|error| error.to_string())
    }

    /// Tells observers where the components are, now that they have started. Repeated until it is known; ends with the
    /// leadership.
    async fn proclaim(&self, leadership: &Leadership, components: &Components) {
        let address = components.address().to_owned();
        let value = Value { address, components: components.addresses(), data: Vec::new() };
        while let Err(error) = leadership.proclaim(value.clone()).await {
            tracing::warn!(fence = %leadership.fence(), %error, "proclaiming again");
            self.world.sleep(PROCLAIM_AGAIN).await;
        }
    }

    /// The cluster that granted the leadership. A view from before the cluster was founded names none.
    async fn cluster(&self) -> Result<ClusterId, String> {
        let named = |view: &LeaderView| view.cluster != ClusterId::default();
        if let Some(view) = self.follower.latest().filter(named) {
            return Ok(view.cluster);
        }
        let view = self.follower.read().await.map_err(|error| error.to_string())?;
        if named(&view) { Ok(view.cluster) } else { Err("the store does not name its cluster".to_owned()) }
    }
}
