//! Keeps a TaskExecutor registered with one leader: ends what older leaders started, registers with retry, heartbeats.
//!
//! It never gives up and decides nothing about who leads: a change of leader ends it and begins another one. A leader that is
//! gone costs nothing: running tasks go on until the next one is known.

use std::time::Duration;

use palisade_fence::Token;
use palisade_rpc::EndpointHandle;
use palisade_world::World;
use tokio::sync::watch;

use super::endpoint::TaskExecutorState;
use super::links::Links;
use super::task_manager::TaskManager;
use crate::convert;
use crate::jobmaster::task::ExecutorId;
use crate::proto;
use crate::proto::ResourceManagerGateway;

/// First pause before another try.
const RETRY: Duration = Duration::from_millis(10);
/// Its largest.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long one registration may take.
const REGISTER: Duration = Duration::from_secs(2);
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

/// Registered, or trying to be, with one leader.
pub(super) struct Registration {
    pub(super) description: Description,
    pub(super) token: Token,
    /// Address of the ResourceManager.
    pub(super) address: String,
    pub(super) links: Links,
    pub(super) tasks: TaskManager,
    pub(super) endpoint: EndpointHandle<TaskExecutorState>,
    /// Shows whether it is registered.
    pub(super) registered: watch::Sender<Option<Token>>,
    pub(super) world: World,
}

impl Registration {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        // Their end is confirmed before the new leader books a slot of this process.
        self.tasks.end_below(self.token).await;
        let mut pause = RETRY;
        loop {
            match self.register().await {
                Ok((gateway, interval)) => {
                    let executor = &self.description.executor;
                    tracing::info!(%executor, token = %self.token, address = self.address, "registered");
                    let registered_at = self.world.now();
                    self.registered.send_replace(Some(self.token));
                    let silence = self.heartbeats(&gateway, interval).await;
                    self.registered.send_replace(None);
                    if silence == Silence::Forgotten {
                        // The leader gave this process up: its jobs are restarted, so nothing here is of use.
                        tracing::warn!(%executor, token = %self.token, "the leader had given this process up");
                        self.tasks.end_all().await;
                        let _ = self.endpoint.run_async(|state, _| state.forget_slots());
                    }
                    // A registration that did not last is no success: going round at once would keep the leader busy.
                    if self.world.now() - registered_at >= interval {
                        pause = RETRY;
                    }
                }
                Err(why) => tracing::debug!(token = %self.token, address = self.address, why, "registering again"),
            }
            self.world.sleep(pause + self.world.jitter(pause / 2)).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn register(&self) -> Result<(ResourceManagerGateway, Duration), String> {
        let gateway: ResourceManagerGateway = self.links.to(&self.address, self.token).await?;
        let request = proto::RegisterTaskExecutorRequest {
            executor: Some(convert::executor_to(&self.description.executor)),
            address: self.description.address.clone(),
            data_address: self.description.data_address.clone(),
            slots: self.description.slots,
        };
        let reply =
            gateway.within(REGISTER).register_task_executor(request).await.map_err(|error| error.to_string())?;
        Ok((gateway, Duration::from_millis(reply.heartbeat_interval_ms.into())))
    }

    /// One heartbeat is always in flight, so that a broken connection is noticed when it breaks.
    async fn heartbeats(&self, gateway: &ResourceManagerGateway, interval: Duration) -> Silence {
        let gateway = gateway.within(interval + GRACE);
        loop {
            let request = proto::ExecutorHeartbeatRequest {
                executor: Some(convert::executor_to(&self.description.executor)),
                answer_after_ms: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX),
            };
            match gateway.executor_heartbeat(request).await {
                Ok(reply) if reply.registered => {}
                Ok(_) => return Silence::Forgotten,
                Err(error) => {
                    tracing::info!(token = %self.token, %error, "the leader's heartbeats stopped");
                    return Silence::Broken;
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
    Broken,
}

/// Says goodbye to a leader; best effort.
pub(super) async fn disconnect(links: &Links, description: &Description, token: Token, address: &str) {
    if let Ok(gateway) = links.to::<ResourceManagerGateway>(address, token).await {
        let _ = gateway.disconnect_task_executor(proto::DisconnectTaskExecutorRequest {
            executor: Some(convert::executor_to(&description.executor)),
            why: "it ends".to_owned(),
        });
    }
}
