//! Between the gateways' messages and our types. What comes off the wire is checked here, once; an error names the field.

use palisade_fence::Token;
use palisade_rpc::AppError;

use crate::dataflow::source::SourcePosition;
use crate::dataflow::split::SplitPosition;
use crate::job::{JobId, JobState, JobStatus, ResultPart};
use crate::jobmaster::task::{AttemptId, ExecutorId, TaskId, Vertex};
use crate::proto;
use crate::storage::Payload;

/// Codes of the runtime's own refusals.
pub(crate) mod code {
    /// A field of the request is wrong.
    pub(crate) const INVALID: u32 = 1;
    /// No such job.
    pub(crate) const NO_SUCH_JOB: u32 = 2;
    /// The job has no result yet, or none at all.
    pub(crate) const NO_RESULT: u32 = 3;
    /// It could not be done here and now; it may be asked again.
    pub(crate) const FAILED: u32 = 4;
    /// The input of a job cannot be read.
    pub(crate) const BAD_INPUT: u32 = 5;
    /// There are too many jobs.
    pub(crate) const TOO_MANY: u32 = 6;
}

pub(crate) fn invalid(why: impl std::fmt::Display) -> AppError {
    AppError::new(code::INVALID, why.to_string())
}

fn absent(field: &str) -> AppError {
    invalid(format!("{field}: absent"))
}

pub(crate) fn job_id(text: &str) -> Result<JobId, AppError> {
    text.parse().map_err(invalid)
}

pub(crate) fn attempt_from(attempt: Option<proto::AttemptId>) -> Result<(JobId, AttemptId), AppError> {
    let attempt = attempt.ok_or_else(|| absent("attempt"))?;
    let token = Token::from_wire(attempt.token)
        .ok_or_else(|| invalid(format!("attempt.token: {} is not a token", attempt.token)))?;
    Ok((job_id(&attempt.job_id)?, AttemptId { token, number: attempt.number }))
}

pub(crate) fn attempt_to(job: &JobId, attempt: AttemptId) -> proto::AttemptId {
    proto::AttemptId { job_id: job.to_string(), token: attempt.token.get(), number: attempt.number }
}

pub(crate) fn executor_from(executor: Option<proto::ExecutorId>) -> Result<ExecutorId, AppError> {
    let executor = executor.ok_or_else(|| absent("executor"))?;
    if executor.name.is_empty() || executor.name.len() > 255 {
        return Err(invalid(format!("executor.name: of {} bytes is not of 1 to 255", executor.name.len())));
    }
    Ok(ExecutorId { name: executor.name, incarnation: executor.incarnation })
}

pub(crate) fn executor_to(executor: &ExecutorId) -> proto::ExecutorId {
    proto::ExecutorId { name: executor.name.clone(), incarnation: executor.incarnation }
}

pub(crate) fn task_from(task: Option<proto::TaskId>) -> Result<TaskId, AppError> {
    let task = task.ok_or_else(|| absent("task"))?;
    let vertex = match task.vertex() {
        proto::Vertex::Source => Vertex::Source,
        proto::Vertex::Count => Vertex::Count,
        proto::Vertex::Unspecified => return Err(invalid(format!("task.vertex: {} is unknown", task.vertex))),
    };
    Ok(TaskId { vertex, subtask: task.subtask })
}

pub(crate) fn task_to(task: TaskId) -> proto::TaskId {
    let vertex = match task.vertex {
        Vertex::Source => proto::Vertex::Source,
        Vertex::Count => proto::Vertex::Count,
    };
    proto::TaskId { vertex: vertex.into(), subtask: task.subtask }
}

pub(crate) fn payload_from(payload: proto::Payload) -> Payload {
    Payload { path: payload.path, length: payload.length, crc32: payload.crc32 }
}

pub(crate) fn payload_to(payload: &Payload) -> proto::Payload {
    proto::Payload { path: payload.path.clone(), length: payload.length, crc32: payload.crc32 }
}

pub(crate) fn position_from(position: proto::SourcePosition) -> SourcePosition {
    let within = position.offset.map(|offset| SplitPosition { offset, skipping: position.skipping });
    SourcePosition { split: position.split, within }
}

pub(crate) fn position_to(position: SourcePosition) -> proto::SourcePosition {
    proto::SourcePosition {
        split: position.split,
        offset: position.within.map(|within| within.offset),
        skipping: position.within.is_some_and(|within| within.skipping),
    }
}

pub(crate) fn part_from(part: proto::ResultPart) -> Option<ResultPart> {
    Some(ResultPart { payload: payload_from(part.payload?), words: part.words, distinct: part.distinct })
}

pub(crate) fn part_to(part: &ResultPart) -> proto::ResultPart {
    proto::ResultPart { payload: Some(payload_to(&part.payload)), words: part.words, distinct: part.distinct }
}

pub(crate) fn status_to(status: JobStatus) -> proto::JobStatus {
    proto::JobStatus {
        job_id: status.id.into(),
        name: status.name,
        state: status.state.name().to_owned(),
        token: status.token,
        attempt: status.attempt,
        registered_task_executors: status.registered_task_executors,
        slots: status.slots,
        restored_checkpoint: status.restored_checkpoint,
        last_checkpoint: status.last_checkpoint,
        completed_checkpoints: status.completed_checkpoints,
        records_processed: status.records_processed,
        started_ms: status.started_ms,
        registered_ms: status.registered_ms,
        resumed_ms: status.resumed_ms,
        why: status.why,
    }
}

pub(crate) fn status_from(status: proto::JobStatus) -> Result<JobStatus, String> {
    Ok(JobStatus {
        id: status.job_id.parse().map_err(|error| format!("{error}"))?,
        name: status.name,
        state: JobState::named(&status.state).ok_or_else(|| format!("state: '{}' is unknown", status.state))?,
        token: status.token,
        attempt: status.attempt,
        registered_task_executors: status.registered_task_executors,
        slots: status.slots,
        restored_checkpoint: status.restored_checkpoint,
        last_checkpoint: status.last_checkpoint,
        completed_checkpoints: status.completed_checkpoints,
        records_processed: status.records_processed,
        started_ms: status.started_ms,
        registered_ms: status.registered_ms,
        resumed_ms: status.resumed_ms,
        why: status.why,
    })
}
