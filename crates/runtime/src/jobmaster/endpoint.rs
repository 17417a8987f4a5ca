//! The JobMaster's endpoint: each message is one step that hands on to the actor. A message is answered once the actor has it.

use palisade_rpc::{Answer, AppError, Context, RpcEndpoint};
use tokio::sync::{mpsc, oneshot};

use super::checkpoints::TaskSnapshot;
use super::job_master::Command;
use super::scheduler::{Event, Lasting};
use crate::convert;
use crate::dataflow::align::CheckpointId;
use crate::job::ResultPart;
use crate::proto;
use crate::proto::acknowledge_checkpoint_request::Snapshot;
use crate::proto::update_task_state_request::State;

/// The endpoint.
pub(crate) struct JobMaster {
    pub(crate) commands: mpsc::Sender<Command>,
}

impl RpcEndpoint for JobMaster {}

impl JobMaster {
    fn hand_on(&self, cx: &mut Context<Self>, command: Result<Command, AppError>) -> Answer<proto::Done> {
        let command = match command {
            Ok(command) => command,
            Err(error) => return Answer::refuse(error),
        };
        let commands = self.commands.clone();
        // Once it is queued it cannot be lost but with the leadership. An ended job's actor needs it no more.
        cx.then(async move { commands.send(command).await }, |_, _, _| Answer::ready(proto::Done {}))
    }
}

fn task_state(request: proto::UpdateTaskStateRequest) -> Result<Command, AppError> {
    let (_, attempt) = convert::attempt_from(request.attempt)?;
    let task = convert::task_from(request.task)?;
    let attempt = attempt.number;
    let event = match request.state.ok_or_else(|| convert::invalid("state: absent"))? {
        State::Running(_) => return Ok(Command::FirstRecord { attempt }),
        State::SourceEnded(ended) => Event::SourceEnded {
            attempt,
            subtask: task.subtask,
            position: convert::position_from(ended.position.ok_or_else(|| convert::invalid("position: absent"))?),
        },
        State::CountFinished(finished) => {
            let payload = finished.payload.ok_or_else(|| convert::invalid("payload: absent"))?;
            let payload = convert::payload_from(payload);
            let part = ResultPart { payload, words: finished.words, distinct: finished.distinct };
            Event::CountFinished { attempt, subtask: task.subtask, part }
        }
        State::Failed(failed) => Event::TaskFailed {
            attempt,
            why: format!("{task}: {}", failed.why),
            lasting: if failed.lasting { Lasting::Yes } else { Lasting::No },
        },
    };
    Ok(Command::Event(event))
}

fn acknowledgement(request: proto::AcknowledgeCheckpointRequest) -> Result<Command, AppError> {
    let (_, attempt) = convert::attempt_from(request.attempt)?;
    let task = convert::task_from(request.task)?;
    let snapshot = match request.snapshot.ok_or_else(|| convert::invalid("snapshot: absent"))? {
        Snapshot::Source(position) => TaskSnapshot::Source(convert::position_from(position)),
        Snapshot::Count(payload) => TaskSnapshot::Count(convert::payload_from(payload)),
    };
    let id = CheckpointId(request.checkpoint);
    Ok(Command::Event(Event::Acknowledged { attempt: attempt.number, id, task, snapshot }))
}

impl proto::JobMasterEndpoint for JobMaster {
    fn update_task_state(
        &mut self,
        cx: &mut Context<Self>,
        request: proto::UpdateTaskStateRequest,
    ) -> Answer<proto::Done> {
        self.hand_on(cx, task_state(request))
    }

    fn acknowledge_checkpoint(
        &mut self,
        cx: &mut Context<Self>,
        request: proto::AcknowledgeCheckpointRequest,
    ) -> Answer<proto::Done> {
        self.hand_on(cx, acknowledgement(request))
    }

    fn decline_checkpoint(
        &mut self,
        cx: &mut Context<Self>,
        request: proto::DeclineCheckpointRequest,
    ) -> Answer<proto::Done> {
        tracing::info!(checkpoint = request.checkpoint, why = request.why, "a checkpoint was declined");
        let id = CheckpointId(request.checkpoint);
        let command = convert::attempt_from(request.attempt)
            .map(|(_, attempt)| Command::Event(Event::Declined { attempt: attempt.number, id }));
        self.hand_on(cx, command)
    }

    fn tasks_heartbeat(
        &mut self,
        cx: &mut Context<Self>,
        request: proto::TasksHeartbeatRequest,
    ) -> Answer<proto::TasksHeartbeatReply> {
        let progress = (|| {
            let (_, attempt) = convert::attempt_from(request.attempt)?;
            let executor = convert::executor_from(request.executor)?;
            let tasks = request.tasks.into_iter().map(|task| Ok((convert::task_from(task.task)?, task.records)));
            let tasks = tasks.collect::<Result<Vec<_>, AppError>>()?;
            let (reply, answer) = oneshot::channel();
            Ok((Command::Progress { executor, attempt: attempt.number, tasks, reply }, answer))
        })();
        let (command, answer) = match progress {
            Ok(progress) => progress,
            Err(error) => return Answer::refuse(error),
        };
        let commands = self.commands.clone();
        let asked = async move {
            let _ = commands.send(command).await;
            // No actor: the job has ended, and no attempt is the present one.
            answer.await.unwrap_or(false)
        };
        cx.then(asked, |_, _, current| Answer::ready(proto::TasksHeartbeatReply { current }))
    }
}
