//! The TaskExecutor's endpoint: slots, and commands to its tasks. A worker's endpoint: the RPC layer has checked the guard
//! before each step, and checks it again after each await.

use std::time::Duration;

use palisade_fence::Token;
use palisade_rpc::{Answer, AppError, Context, RpcEndpoint};
use palisade_world::World;

use super::counters::Counters;
use super::task_manager::{Restore, TaskManager, TaskSpec};
use crate::convert::{self, code};
use crate::dataflow::align::CheckpointId;
use crate::job::JobId;
use crate::jobmaster::task::{AttemptId, ExecutorId};
use crate::proto;
use crate::proto::submit_task_request;

/// A leader that asks for longer waits than this is answered after this.
const HELD_MAX: Duration = Duration::from_secs(10);

/// The endpoint.
pub(crate) struct TaskExecutorState {
    pub(crate) executor: ExecutorId,
    /// By slot; `None` is free.
    pub(crate) slots: Vec<Option<JobId>>,
    pub(crate) tasks: TaskManager,
    pub(crate) counters: Counters,
    /// The newest leader that has called, or that the election has told of.
    pub(crate) leader: Option<Token>,
    pub(crate) world: World,
}

impl RpcEndpoint for TaskExecutorState {}

impl TaskExecutorState {
    /// A newer leader: its books say that all slots are free, and tasks of older ones must not go on.
    pub(crate) fn accept(&mut self, token: Token) {
        if self.leader >= Some(token) {
            return;
        }
        tracing::info!(executor = %self.executor, %token, before = ?self.leader, "a newer leader is accepted");
        self.leader = Some(token);
        self.tasks.raise(token);
        self.slots.fill(None);
    }

    /// The ResourceManager took this process for gone and books all its slots as free.
    pub(crate) fn forget_slots(&mut self) {
        self.slots.fill(None);
    }

    fn accept_caller(&mut self, cx: &Context<Self>) {
        if let Some(token) = cx.token() {
            self.accept(token);
        }
    }

    /// The attempt of a request must be of the leader that sends it.
    fn attempt(&self, cx: &Context<Self>, attempt: Option<proto::AttemptId>) -> Result<(JobId, AttemptId), AppError> {
        let (job, attempt) = convert::attempt_from(attempt)?;
        if cx.token().is_some_and(|token| token != attempt.token) {
            return Err(convert::invalid(format!("attempt.token: {} is not the sender's", attempt.token)));
        }
        Ok((job, attempt))
    }
}

fn task_spec(job: JobId, attempt: AttemptId, request: proto::SubmitTaskRequest) -> Result<TaskSpec, AppError> {
    let graph = request.graph.ok_or_else(|| convert::invalid("graph: absent"))?;
    let restore = match request.restore {
        None => Restore::Nothing,
        Some(submit_task_request::Restore::Source(position)) => Restore::Source(convert::position_from(position)),
        Some(submit_task_request::Restore::Count(payload)) => Restore::Count(convert::payload_from(payload)),
    };
    Ok(TaskSpec {
        job,
        attempt,
        task: convert::task_from(request.task)?,
        graph: convert::payload_from(graph),
        job_master: request.job_master_address,
        count_addresses: request.count_addresses,
        restore,
    })
}

impl proto::TaskExecutorEndpoint for TaskExecutorState {
    fn request_slot(
        &mut self,
        cx: &mut Context<Self>,
        request: proto::RequestSlotRequest,
    ) -> Answer<proto::RequestSlotReply> {
        self.accept_caller(cx);
        let job = match convert::job_id(&request.job_id) {
            Ok(job) => job,
            Err(error) => return Answer::refuse(error),
        };
        let same = request.incarnation == self.executor.incarnation;
        let slot = usize::try_from(request.slot).ok().and_then(|slot| self.slots.get_mut(slot));
        // The leader's books decide. If they gave the slot away before and this process was not told (a call that frees it was
        // lost, or the process was given up and came back), then who had it is over: its tasks end when they report next.
        let reserved = match slot {
            Some(slot) if same => {
                *slot = Some(job);
                true
            }
            _ => false,
        };
        Answer::ready(proto::RequestSlotReply { reserved })
    }

    fn free_slot(&mut self, cx: &mut Context<Self>, request: proto::FreeSlotRequest) -> Answer<proto::Done> {
        self.accept_caller(cx);
        if let Some(slot) = usize::try_from(request.slot).ok().and_then(|slot| self.slots.get_mut(slot))
            && slot.as_ref().is_some_and(|job| job.as_str() == request.job_id)
        {
            *slot = None;
        }
        Answer::ready(proto::Done {})
    }

    fn submit_task(&mut self, cx: &mut Context<Self>, request: proto::SubmitTaskRequest) -> Answer<proto::Done> {
        self.accept_caller(cx);
        if request.incarnation != self.executor.incarnation {
            return Answer::refuse(AppError::new(code::FAILED, "this is another incarnation of the TaskExecutor"));
        }
        let slot = request.slot;
        let spec =
            self.attempt(cx, request.attempt.clone()).and_then(|(job, attempt)| task_spec(job, attempt, request));
        let spec = match spec {
            Ok(spec) => spec,
            Err(error) => return Answer::refuse(error),
        };
        let holder = usize::try_from(slot).ok().and_then(|slot| self.slots.get(slot)).and_then(Option::as_ref);
        if holder != Some(&spec.job) {
            return Answer::refuse(AppError::new(code::FAILED, format!("slot: {slot} is not reserved for this job")));
        }
        let tasks = self.tasks.clone();
        cx.then(async move { tasks.start_task(spec).await }, |_, _, started| {
            Answer::from(started.map(|()| proto::Done {}).map_err(|why| AppError::new(code::FAILED, why)))
        })
    }

    fn cancel_tasks(&mut self, cx: &mut Context<Self>, request: proto::CancelTasksRequest) -> Answer<proto::Done> {
        self.accept_caller(cx);
        let (job, attempt) = match self.attempt(cx, request.attempt) {
            Ok(attempt) => attempt,
            Err(error) => return Answer::refuse(error),
        };
        let tasks = self.tasks.clone();
        cx.then(async move { tasks.end(job, attempt).await }, |_, _, ()| Answer::ready(proto::Done {}))
    }

    fn trigger_checkpoint(
        &mut self,
        cx: &mut Context<Self>,
        request: proto::TriggerCheckpointRequest,
    ) -> Answer<proto::Done> {
        self.accept_caller(cx);
        let (job, attempt) = match self.attempt(cx, request.attempt) {
            Ok(attempt) => attempt,
            Err(error) => return Answer::refuse(error),
        };
        let (tasks, id) = (self.tasks.clone(), CheckpointId(request.checkpoint));
        cx.then(async move { tasks.trigger(job, attempt, id).await }, |_, _, ()| Answer::ready(proto::Done {}))
    }

    fn confirm_checkpoint(
        &mut self,
        cx: &mut Context<Self>,
        request: proto::ConfirmCheckpointRequest,
    ) -> Answer<proto::Done> {
        self.accept_caller(cx);
        let (job, attempt) = match self.attempt(cx, request.attempt) {
            Ok(attempt) => attempt,
            Err(error) => return Answer::refuse(error),
        };
        // A word count has no sink that commits; one that had would do it here, and nowhere earlier.
        tracing::debug!(%job, %attempt, checkpoint = request.checkpoint, "confirmed");
        self.counters.add("checkpoints_confirmed", 1);
        Answer::ready(proto::Done {})
    }

    fn leader_heartbeat(
        &mut self,
        cx: &mut Context<Self>,
        request: proto::LeaderHeartbeatRequest,
    ) -> Answer<proto::LeaderHeartbeatReply> {
        self.accept_caller(cx);
        let same = request.incarnation == self.executor.incarnation;
        let (held, world) = (Duration::from_millis(request.answer_after_ms.into()).min(HELD_MAX), self.world.clone());
        let hold = async move {
            if same {
                world.sleep(held).await;
            }
        };
        cx.then(hold, move |_, _, ()| Answer::ready(proto::LeaderHeartbeatReply { same }))
    }
}
