//! The ResourceManager's endpoint: each message is one step that hands on to the actor.

use std::time::Duration;

use palisade_rpc::{Answer, AppError, Context, RpcEndpoint};
use palisade_world::World;
use tokio::sync::watch;

use super::actor::{Overview, ResourceManagerHandle};
use super::slot_manager::{Registration, SLOTS_MAX};
use crate::convert;
use crate::jobmanager::Heartbeats;
use crate::proto;

/// A TaskExecutor that asks for longer waits than this is answered after this.
const HELD_MAX: Duration = Duration::from_secs(10);

/// The endpoint.
pub(crate) struct ResourceManager {
    pub(crate) handle: ResourceManagerHandle,
    pub(crate) overview: watch::Receiver<Overview>,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) world: World,
}

impl RpcEndpoint for ResourceManager {}

fn registration(request: proto::RegisterTaskExecutorRequest) -> Result<Registration, AppError> {
    let executor = convert::executor_from(request.executor)?;
    request.address.parse::<palisade_rpc::RpcAddress>().map_err(convert::invalid)?;
    palisade_world::grpc::check_address(&request.data_address).map_err(convert::invalid)?;
    if !(1..=SLOTS_MAX).contains(&request.slots) {
        return Err(convert::invalid(format!("slots: {} is not from 1 to {SLOTS_MAX}", request.slots)));
    }
    Ok(Registration { executor, address: request.address, data_address: request.data_address, slots: request.slots })
}

impl proto::ResourceManagerEndpoint for ResourceManager {
    fn register_task_executor(
        &mut self,
        cx: &mut Context<Self>,
        request: proto::RegisterTaskExecutorRequest,
    ) -> Answer<proto::RegisterTaskExecutorReply> {
        let registration = match registration(request) {
            Ok(registration) => registration,
            Err(error) => return Answer::refuse(error),
        };
        let handle = self.handle.clone();
        let ms = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let reply = proto::RegisterTaskExecutorReply {
            heartbeat_interval_ms: ms(self.heartbeats.interval),
            heartbeat_timeout_ms: ms(self.heartbeats.timeout),
        };
        cx.then(async move { handle.register(registration).await }, move |_, _, ()| Answer::ready(reply))
    }

    fn executor_heartbeat(
        &mut self,
        cx: &mut Context<Self>,
        request: proto::ExecutorHeartbeatRequest,
    ) -> Answer<proto::ExecutorHeartbeatReply> {
        let executor = match convert::executor_from(request.executor) {
            Ok(executor) => executor,
            Err(error) => return Answer::refuse(error),
        };
        let (handle, world) = (self.handle.clone(), self.world.clone());
        let held = Duration::from_millis(request.answer_after_ms.into()).min(HELD_MAX);
        let heard = async move {
            let registered = handle.heard(executor).await;
            if registered {
                world.sleep(held).await;
            }
            registered
        };
        cx.then(heard, |_, _, registered| Answer::ready(proto::ExecutorHeartbeatReply { registered }))
    }

    fn disconnect_task_executor(&mut self, _: &mut Context<Self>, request: proto::DisconnectTaskExecutorRequest) {
        if let Ok(executor) = convert::executor_from(request.executor) {
            self.handle.disconnected(executor, format!("it says: {}", request.why));
        }
    }

    fn overview(&mut self, _: &mut Context<Self>, _: proto::OverviewRequest) -> Answer<proto::OverviewReply> {
        let overview = *self.overview.borrow();
        Answer::ready(proto::OverviewReply {
            task_executors: overview.task_executors,
            slots: overview.slots,
            free_slots: overview.free_slots,
        })
    }
}
