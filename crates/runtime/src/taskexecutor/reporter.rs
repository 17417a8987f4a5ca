//! Tells the JobMaster what the tasks of one attempt say: in order, each until it is answered; and sends their heartbeats.
//!
//! It does not know whether the leader is still one: when it is not, its messages are refused, and the new leader ends the
//! attempt and this reporter with it.

use std::time::Duration;

use palisade_rpc::{Backoff, RpcError};
use palisade_world::World;
use tokio::sync::mpsc;

use super::counters::Counters;
use super::links::Links;
use super::report::Report;
use super::task_manager::{Progress, read_progress};
use crate::convert;
use crate::job::JobId;
use crate::jobmaster::checkpoints::TaskSnapshot;
use crate::jobmaster::scheduler::Lasting;
use crate::jobmaster::task::{AttemptId, ExecutorId, TaskId};
use crate::proto;
use crate::proto::JobMasterGateway;
use crate::proto::acknowledge_checkpoint_request::Snapshot;
use crate::proto::update_task_state_request::State;

/// Time between two heartbeats of an attempt's tasks; well below every heartbeat timeout.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// How long one message may take; a leader that is gone is noticed by its broken connection long before.
const LIMIT: Duration = Duration::from_secs(5);

/// The reporter of one attempt.
pub(crate) struct Reporter {
    pub(crate) job: JobId,
    pub(crate) attempt: AttemptId,
    pub(crate) executor: ExecutorId,
    pub(crate) job_master: String,
    pub(crate) links: Links,
    pub(crate) progress: Progress,
    pub(crate) counters: Counters,
    pub(crate) world: World,
    /// Connected when first needed, and again after a failure.
    pub(crate) gateway: Option<JobMasterGateway>,
}

impl Reporter {
    /// Runs until the attempt is over; calls `over` if the JobMaster says so.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<(TaskId, Report)>, over: impl Fn()) {
        let mut beat_at = self.world.now();
        loop {
            tokio::select! {
                report = queue.recv() => match report {
                    Some((task, report)) => self.send(task, report).await,
                    None => return,
                },
                () = self.world.sleep_until(beat_at) => {
                    if let Ok(false) = self.heartbeat().await {
                        tracing::info!(job = %self.job, attempt = %self.attempt, "the JobMaster says that this attempt is over");
                        over();
                    }
                    beat_at = self.world.now() + HEARTBEAT;
                }
            }
        }
    }

    async fn gateway(&mut self) -> Result<JobMasterGateway, String> {
        if let Some(gateway) = &self.gateway {
            return Ok(gateway.clone());
        }
        let gateway: JobMasterGateway = self.links.to(&self.job_master, self.attempt.token).await?;
        Ok(self.gateway.insert(gateway.within(LIMIT)).clone())
    }

    /// Sends a report until it is answered. Never gives up: whoever ends the attempt ends this.
    async fn send(&mut self, task: TaskId, report: Report) {
        let mut pauses = Backoff::default();
        loop {
            let sent = match self.gateway().await {
                Ok(gateway) => self.send_once(&gateway, task, report.clone()).await.map_err(|error| error.to_string()),
                Err(why) => Err(why),
            };
            match sent {
                Ok(()) => return,
                Err(why) => {
                    self.gateway = None;
                    self.counters.add("reports_repeated", 1);
                    tracing::debug!(job = %self.job, attempt = %self.attempt, %task, why, "reporting again");
                }
            }
            let pause = pauses.pause(&self.world);
            self.world.sleep(pause).await;
        }
    }

    async fn send_once(&self, gateway: &JobMasterGateway, task: TaskId, report: Report) -> Result<(), RpcError> {
        let attempt = Some(convert::attempt_to(&self.job, self.attempt));
        let task = Some(convert::task_to(task));
        let state = match report {
            Report::Acknowledge(id, snapshot) => {
                let snapshot = Some(match snapshot {
                    TaskSnapshot::Source(position) => Snapshot::Source(convert::position_to(position)),
                    TaskSnapshot::Count(payload) => Snapshot::Count(convert::payload_to(&payload)),
                });
                let request = proto::AcknowledgeCheckpointRequest { attempt, checkpoint: id.0, task, snapshot };
                return gateway.acknowledge_checkpoint(request).await.map(|_| ());
            }
            Report::Decline(id, why) => {
                let request = proto::DeclineCheckpointRequest { attempt, checkpoint: id.0, task, why };
                return gateway.decline_checkpoint(request).await.map(|_| ());
            }
            Report::Running => State::Running(proto::Done {}),
            Report::SourceEnded(position) => {
                State::SourceEnded(proto::SourceEnded { position: Some(convert::position_to(position)) })
            }
            Report::CountFinished(part) => State::CountFinished(proto::CountFinished {
                payload: Some(convert::payload_to(&part.payload)),
                words: part.words,
                distinct: part.distinct,
            }),
            Report::Failed { why, lasting } => {
                State::Failed(proto::TaskFailed { why, lasting: lasting == Lasting::Yes })
            }
        };
        let executor = Some(convert::executor_to(&self.executor));
        let request = proto::UpdateTaskStateRequest { attempt, task, executor, state: Some(state) };
        gateway.update_task_state(request).await.map(|_| ())
    }

    /// Returns whether the attempt is the present one.
    async fn heartbeat(&mut self) -> Result<bool, String> {
        let tasks = read_progress(&self.progress).into_iter();
        let tasks = tasks.map(|(task, records)| proto::TaskProgress { task: Some(convert::task_to(task)), records });
        let request = proto::TasksHeartbeatRequest {
            executor: Some(convert::executor_to(&self.executor)),
            attempt: Some(convert::attempt_to(&self.job, self.attempt)),
            tasks: tasks.collect(),
        };
        match self.gateway().await?.tasks_heartbeat(request).await {
            Ok(reply) => Ok(reply.current),
            Err(error) => {
                self.gateway = None;
                Err(error.to_string())
            }
        }
    }
}
