//! Keeps a TaskExecutor registered with whoever leads, and its heartbeats going. How it is registered, how long is waited and when
//! a leader counts as gone, is the RPC layer's; here is what that means for tasks and slots.
//!
//! It keeps true: what older leaders started has ended before this process is registered with the next.

use std::sync::Arc;
use std::time::Duration;

use palisade_fence::{LeaderSource, Token};
use palisade_rpc::{
    Attempt, Connection, Decision, EndpointHandle, Heartbeat, HeartbeatPolicy, Heartbeats, LeaderConnection,
    RegistrationPolicy, RpcError, RpcService,
};
use palisade_world::{Task, World};
use tokio::sync::watch;

use super::endpoint::TaskExecutorState;
use super::task_manager::TaskManager;
use crate::convert;
use crate::jobmanager::RESOURCE_MANAGER;
use crate::jobmaster::task::ExecutorId;
use crate::proto;
use crate::proto::ResourceManagerGateway;

/// A heartbeat is answered after the interval; silence for this long beyond it is a failure.
const GRACE: Duration = Duration::from_secs(2);

/// What a TaskExecutor says about itself.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub(super) executor: ExecutorId,
    pub(super) address: String,
    pub(super) data_address: String,
    pub(super) slots: u32,
}

/// The connection to ResourceManagers; its answers are the policy of the heartbeats.
type ToLeader = LeaderConnection<ResourceManagerGateway, HeartbeatPolicy>;

/// What a registration works with.
#[derive(Clone)]
pub(super) struct Registrar {
    pub(super) description: Description,
    pub(super) service: RpcService,
    pub(super) follower: Arc<dyn LeaderSource>,
    pub(super) tasks: TaskManager,
    pub(super) endpoint: EndpointHandle<TaskExecutorState>,
    /// Shows whether it is registered.
    pub(super) registered: watch::Sender<Option<Token>>,
    pub(super) world: World,
}

/// A TaskExecutor that is registered, or trying to be. Dropping it ends that without a word.
pub(super) struct Registered {
    connection: Arc<ToLeader>,
    executor: ExecutorId,
    _heartbeats: Task<()>,
}

impl Registrar {
    pub(super) fn start(self) -> Registered {
        let (service, follower, world) = (self.service.clone(), self.follower.clone(), self.world.clone());
        let executor = self.description.executor.clone();
        let (registrar, policy) = (self.clone(), RegistrationPolicy::default());
        let attempt = move |attempt| registrar.clone().register(attempt);
        let connection = LeaderConnection::start(&service, follower, RESOURCE_MANAGER, policy, &world, attempt);
        let connection = Arc::new(connection);
        let heartbeats = world.spawn("heartbeats", self.run(connection.clone()));
        Registered { connection, executor, _heartbeats: heartbeats }
    }

    async fn register(self, attempt: Attempt<ResourceManagerGateway>) -> Result<Decision<HeartbeatPolicy>, RpcError> {
        // Their end is confirmed before the new leader books a slot of this process.
        self.tasks.end_below(attempt.target.token).await;
        let request = proto::RegisterTaskExecutorRequest {
            executor: Some(convert::executor_to(&self.description.executor)),
            address: self.description.address,
            data_address: self.description.data_address,
            slots: self.description.slots,
        };
        let reply = attempt.gateway.register_task_executor(request).await?;
        let interval = Duration::from_millis(reply.heartbeat_interval_ms.into());
        let timeout = interval + GRACE;
        Ok(Decision::Accepted(HeartbeatPolicy { interval, timeout, ..HeartbeatPolicy::default() }))
    }

    async fn run(self, connection: Arc<ToLeader>) {
        let executor = &self.description.executor;
        let mut state = connection.state();
        loop {
            let registered = match &*state.borrow_and_update() {
                Connection::Registered { target, gateway, answer } => Some((target.clone(), gateway.clone(), *answer)),
                Connection::NoLeader | Connection::Registering { .. } | Connection::Rejected { .. } => None,
            };
            self.registered.send_replace(registered.as_ref().map(|(target, _, _)| target.token));
            let Some((target, gateway, policy)) = registered else {
                match state.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            };
            tracing::info!(%executor, token = %target.token, address = %target.address, "registered");
            let ended = tokio::select! {
                changed = state.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                ended = self.heartbeats(&gateway, target.token, policy) => ended,
            };
            self.registered.send_replace(None);
            if ended == Silence::Forgotten {
                // The leader gave this process up: its jobs are restarted, so nothing here is of use.
                tracing::warn!(%executor, token = %target.token, "the leader had given this process up");
                self.tasks.end_all().await;
                let _ = self.endpoint.run_async(|state, _| state.forget_slots());
            }
            // Unless there is another leader meanwhile, which is registered with already.
            connection.reconnect(target.token);
        }
    }

    /// Until the leader is gone, or does not know this process.
    async fn heartbeats(&self, gateway: &ResourceManagerGateway, token: Token, policy: HeartbeatPolicy) -> Silence {
        let heartbeats = Heartbeats::<Token, proto::ExecutorHeartbeatReply>::new(policy, &self.world);
        let gateway = gateway.within(policy.timeout);
        let request = proto::ExecutorHeartbeatRequest {
            executor: Some(convert::executor_to(&self.description.executor)),
            answer_after_ms: u32::try_from(policy.interval.as_millis()).unwrap_or(u32::MAX),
        };
        heartbeats.request(token, move |_| {
            let (gateway, request) = (gateway.clone(), request.clone());
            async move { gateway.executor_heartbeat(request).await }
        });
        loop {
            match heartbeats.next().await {
                Heartbeat::Heard { payload, .. } if payload.registered => {}
                Heartbeat::Heard { .. } => return Silence::Forgotten,
                Heartbeat::Gone { why, .. } => {
                    tracing::info!(%token, %why, "the leader is gone");
                    return Silence::Gone;
                }
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Silence {
    /// The leader does not know this process any more.
    Forgotten,
    /// The leader cannot be reached, or is none any more.
    Gone,
}

impl Registered {
    /// Says goodbye to the leader; best effort.
    pub(super) fn disconnect(self) {
        let state = self.connection.state().borrow().clone();
        self.connection.close();
        if let Connection::Registered { gateway, .. } = state {
            let _ = gateway.disconnect_task_executor(proto::DisconnectTaskExecutorRequest {
                executor: Some(convert::executor_to(&self.executor)),
                why: "it ends".to_owned(),
            });
        }
    }
}
