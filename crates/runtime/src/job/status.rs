//! A job as its JobMaster sees it; what `palisade job status` shows.

use serde::{Deserialize, Serialize};

use super::JobId;

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It is stored, and waits for enough slots.
    WaitingForSlots,
    /// Its tasks are being started.
    Deploying,
    /// Its tasks run.
    Running,
    /// Its tasks are being ended, to be started again from the last completed checkpoint.
    Restarting,
    /// Its tasks have ended and its result is being stored.
    Finishing,
    /// Its result is stored.
    Finished,
    /// It was cancelled, and that is stored.
    Cancelled,
    /// It cannot be run, and that is stored.
    Failed,
}

impl JobState {
    /// Each, once.
    pub(crate) const ALL: [JobState; 8] = [
        JobState::WaitingForSlots,
        JobState::Deploying,
        JobState::Running,
        JobState::Restarting,
        JobState::Finishing,
        JobState::Finished,
        JobState::Cancelled,
        JobState::Failed,
    ];

    /// Whether it stays like this for ever.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobState::Finished | JobState::Cancelled | JobState::Failed)
    }

    /// The name in JSON and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            JobState::WaitingForSlots => "waiting_for_slots",
            JobState::Deploying => "deploying",
            JobState::Running => "running",
            JobState::Restarting => "restarting",
            JobState::Finishing => "finishing",
            JobState::Finished => "finished",
            JobState::Cancelled => "cancelled",
            JobState::Failed => "failed",
        }
    }

    /// The state of that name.
    pub fn named(name: &str) -> Option<JobState> {
        use JobState::{Cancelled, Deploying, Failed, Finished, Finishing, Restarting, Running, WaitingForSlots};
        let all = [WaitingForSlots, Deploying, Running, Restarting, Finishing, Finished, Cancelled, Failed];
        all.into_iter().find(|state| state.name() == name)
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the leader knows about a job. Numbers of the present leadership start anew with each leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The job.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: JobState,
    /// The leadership that says so.
    pub token: u64,
    /// Execution attempts under this leadership.
    pub attempt: u64,
    /// TaskExecutors registered with this leader.
    pub registered_task_executors: u32,
    /// Slots of these.
    pub slots: u32,
    /// The checkpoint that the present attempt started from.
    pub restored_checkpoint: Option<u64>,
    /// The newest checkpoint whose pointer is known to be stored.
    pub last_checkpoint: Option<u64>,
    /// Checkpoints completed under this leadership.
    pub completed_checkpoints: u64,
    /// Records counted by the present attempt, without what it restored; a little behind.
    pub records_processed: u64,
    /// Milliseconds from the start of this leadership until all its components had started.
    pub started_ms: Option<f64>,
    /// The same until the job had its slots, that is, enough TaskExecutors had registered.
    pub registered_ms: Option<f64>,
    /// The same until the first record was counted.
    pub resumed_ms: Option<f64>,
    /// Why it failed, or why it last restarted.
    pub why: Option<String>,
}
