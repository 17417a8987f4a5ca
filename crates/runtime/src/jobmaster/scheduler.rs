//! Runs one job: waits for slots, starts all tasks, restarts them all from the last completed checkpoint when one of them is
//! lost, gathers the result.
//!
//! Pure: events in, effects out; the JobMaster's endpoint carries them out and reports back. It keeps true that tasks of a new
//! attempt start only after all tasks of the last one have ended or their TaskExecutor is gone, and only when the outcome of
//! every pointer write is known; and that a result is stored at most once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::checkpoints::{CheckpointEffect, Checkpoints, CompletedCheckpoint, TaskSnapshot};
use super::task::{ExecutorId, Slot, TaskId, Vertex};
use crate::dataflow::align::CheckpointId;
use crate::dataflow::source::SourcePosition;
use crate::job::{JobState, ResultPart};

/// The first restart comes at once; the pause doubles while restarts follow each other without a checkpoint between them.
const RESTART_PAUSE: Duration = Duration::from_millis(10);
/// A job that cannot run must not keep its cluster busy.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The job begins, or is taken up.
    Start,
    /// As many slots as were asked for, in answer to that request.
    SlotsGranted {
        /// The attempt that asked.
        attempt: u64,
        /// One per subtask.
        slots: Vec<Slot>,
    },
    /// A task has been started.
    Deployed {
        /// Its attempt.
        attempt: u64,
        /// The task.
        task: TaskId,
    },
    /// A source has read everything and ended its channels.
    SourceEnded {
        /// Its attempt.
        attempt: u64,
        /// Which.
        subtask: u32,
        /// Its final position.
        position: SourcePosition,
    },
    /// A count has taken in everything; its part of the result is durable.
    CountFinished {
        /// Its attempt.
        attempt: u64,
        /// Which.
        subtask: u32,
        /// Its counts.
        part: ResultPart,
    },
    /// A task failed, or could not be started.
    TaskFailed {
        /// Its attempt.
        attempt: u64,
        /// Why.
        why: String,
        /// Whether it would fail again (a file is gone, a word is too long).
        lasting: Lasting,
    },
    /// A TaskExecutor is gone, and its tasks with it.
    ExecutorLost {
        /// Which.
        executor: ExecutorId,
    },
    /// All tasks of an attempt on this TaskExecutor have ended.
    TasksEnded {
        /// The attempt.
        attempt: u64,
        /// Where.
        executor: ExecutorId,
    },
    /// The pause before a restart is over.
    RestartDue {
        /// The attempt that is to be restarted.
        attempt: u64,
    },
    /// Time for the next checkpoint.
    CheckpointDue,
    /// A task's snapshot is durable.
    Acknowledged {
        /// Its attempt.
        attempt: u64,
        /// The checkpoint.
        id: CheckpointId,
        /// The task.
        task: TaskId,
        /// Its state.
        snapshot: TaskSnapshot,
    },
    /// A task could not take its snapshot.
    Declined {
        /// Its attempt.
        attempt: u64,
        /// The checkpoint.
        id: CheckpointId,
    },
    /// The pointer is known to be stored.
    CheckpointStored(CompletedCheckpoint),
    /// The metadata payload could not be written.
    CheckpointNotWritten(CheckpointId),
    /// Somebody wants the job to end.
    CancelRequested,
    /// The result is known to be stored.
    ResultStored,
}

/// Whether a failure would come again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lasting {
    /// Starting again may help.
    No,
    /// It will not.
    Yes,
}

/// What the endpoint is to do.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Effect {
    /// Ask the ResourceManager for slots.
    RequestSlots {
        /// To be named in the answer.
        attempt: u64,
        /// How many.
        count: u32,
    },
    /// Give all slots back and withdraw any request.
    ReleaseSlots,
    /// Start a task.
    Deploy {
        /// Its attempt.
        attempt: u64,
        /// The task.
        task: TaskId,
        /// Where.
        slot: Slot,
        /// What it starts from.
        restore: Option<CompletedCheckpoint>,
    },
    /// End all tasks of the attempt on one TaskExecutor; then report.
    EndTasks {
        /// The attempt.
        attempt: u64,
        /// Where.
        slot: Slot,
    },
    /// Report [`Event::RestartDue`] after a pause.
    RestartAfter {
        /// The attempt.
        attempt: u64,
        /// The pause.
        pause: Duration,
    },
    /// Something about a checkpoint.
    Checkpoint {
        /// The attempt.
        attempt: u64,
        /// What.
        effect: CheckpointEffect,
    },
    /// Store how the job ended; repeat until the outcome is known; then report.
    StoreResult {
        /// Finished, cancelled or failed.
        state: JobState,
        /// The parts, if it finished.
        parts: Vec<ResultPart>,
        /// Why it failed.
        why: Option<String>,
    },
    /// The job is over: clean up.
    CleanUp,
}

#[derive(Clone, Debug, PartialEq)]
enum Then {
    Restart,
    End { state: JobState, why: Option<String> },
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    New,
    WaitingForSlots,
    /// Counts first, so that a source finds its channels open.
    Deploying {
        vertex: Vertex,
        left: BTreeSet<TaskId>,
    },
    Running,
    /// Tasks are being ended on these TaskExecutors.
    Ending {
        left: BTreeSet<ExecutorId>,
        then: Then,
    },
    /// All tasks have ended; waits for the pause, or for the outcome of a pointer write.
    Pausing {
        due: bool,
    },
    /// Waits for the outcome of a pointer write before the result is stored.
    Settling {
        state: JobState,
        why: Option<String>,
        parts: Vec<ResultPart>,
    },
    StoringResult {
        state: JobState,
    },
    Done {
        state: JobState,
    },
}

/// The scheduler of one job.
#[derive(Clone, Debug)]
pub struct Scheduler {
    parallelism: u32,
    attempt: u64,
    phase: Phase,
    /// By subtask; empty while there are none.
    slots: Vec<Slot>,
    finished: BTreeMap<u32, ResultPart>,
    checkpoints: Checkpoints,
    restored: Option<CheckpointId>,
    restarts_in_a_row: u32,
    why: Option<String>,
}

impl Scheduler {
    /// A job that goes on from what the checkpoints say.
    pub fn new(parallelism: u32, checkpoints: Checkpoints) -> Scheduler {
        Scheduler {
            parallelism,
            attempt: 1,
            phase: Phase::New,
            slots: Vec::new(),
            finished: BTreeMap::new(),
            checkpoints,
            restored: None,
            restarts_in_a_row: 0,
            why: None,
        }
    }

    /// Where the job is in its life.
    pub fn state(&self) -> JobState {
        match &self.phase {
            Phase::New | Phase::WaitingForSlots => JobState::WaitingForSlots,
            Phase::Deploying { .. } => JobState::Deploying,
            Phase::Running => JobState::Running,
            Phase::Ending { then: Then::Restart, .. } | Phase::Pausing { .. } => JobState::Restarting,
            Phase::Ending { .. } | Phase::Settling { .. } | Phase::StoringResult { .. } => JobState::Finishing,
            Phase::Done { state } => *state,
        }
    }

    /// The present attempt.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// The slots of the present attempt by subtask.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The checkpoint that the present attempt started from.
    pub fn restored(&self) -> Option<CheckpointId> {
        self.restored
    }

    /// The coordinator of checkpoints.
    pub fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// Why it last restarted or failed.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Decides.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        match event {
            Event::Start if self.phase == Phase::New => self.request_slots(),
            Event::SlotsGranted { attempt, slots } if attempt == self.attempt => self.deploy(slots),
            Event::Deployed { attempt, task } if attempt == self.attempt => self.on_deployed(task),
            Event::SourceEnded { attempt, subtask, position } if self.runs(attempt) => {
                let effects = self.checkpoints.on_source_ended(subtask, position);
                self.wrap(effects)
            }
            Event::CountFinished { attempt, subtask, part } if self.runs(attempt) => self.on_finished(subtask, part),
            Event::TaskFailed { attempt, why, lasting } if attempt == self.attempt => self.on_failed(why, lasting),
            Event::ExecutorLost { executor } => self.on_lost(&executor),
            Event::TasksEnded { attempt, executor } if attempt == self.attempt => self.on_ended(&executor),
            Event::RestartDue { attempt } if attempt == self.attempt => {
                if let Phase::Pausing { due } = &mut self.phase {
                    *due = true;
                }
                self.settle()
            }
            Event::CheckpointDue if self.phase == Phase::Running && self.finished.is_empty() => {
                let effects = self.checkpoints.on_tick(now);
                self.wrap(effects)
            }
            Event::Acknowledged { attempt, id, task, snapshot } if self.runs(attempt) => {
                let effects = self.checkpoints.on_acknowledged(id, task, snapshot);
                self.wrap(effects)
            }
            Event::Declined { attempt, id } if self.runs(attempt) => {
                let effects = self.checkpoints.on_declined(id);
                self.wrap(effects)
            }
            Event::CheckpointStored(completed) => {
                self.restarts_in_a_row = 0;
                let effects = self.checkpoints.on_stored(completed);
                let mut effects = self.wrap(effects);
                effects.extend(self.settle());
                effects
            }
            Event::CheckpointNotWritten(id) => {
                let effects = self.checkpoints.on_not_written(id);
                let mut effects = self.wrap(effects);
                effects.extend(self.settle());
                effects
            }
            Event::CancelRequested => self.on_cancel(),
            Event::ResultStored => self.on_result_stored(),
            // Late words of an earlier attempt or phase.
            _ => Vec::new(),
        }
    }

    fn runs(&self, attempt: u64) -> bool {
        attempt == self.attempt && matches!(self.phase, Phase::Running | Phase::Deploying { .. })
    }

    fn wrap(&self, effects: Vec<CheckpointEffect>) -> Vec<Effect> {
        effects.into_iter().map(|effect| Effect::Checkpoint { attempt: self.attempt, effect }).collect()
    }

    fn request_slots(&mut self) -> Vec<Effect> {
        self.phase = Phase::WaitingForSlots;
        vec![Effect::RequestSlots { attempt: self.attempt, count: self.parallelism }]
    }

    fn deploy(&mut self, slots: Vec<Slot>) -> Vec<Effect> {
        if self.phase != Phase::WaitingForSlots {
            return Vec::new();
        }
        assert_eq!(slots.len(), usize::try_from(self.parallelism).expect("bounded"), "all slots are granted, or none");
        assert!(!self.checkpoints.is_storing(), "no attempt starts while the outcome of a pointer write is unknown");
        self.slots = slots;
        self.finished.clear();
        self.restored = self.checkpoints.newest().map(|newest| newest.id);
        self.deploy_vertex(Vertex::Count)
    }

    fn deploy_vertex(&mut self, vertex: Vertex) -> Vec<Effect> {
        let tasks = (0..self.parallelism).map(|subtask| TaskId { vertex, subtask });
        self.phase = Phase::Deploying { vertex, left: tasks.clone().collect() };
        let restore = self.checkpoints.newest();
        let deploy = |(task, slot): (TaskId, &Slot)| Effect::Deploy {
            attempt: self.attempt,
            task,
            slot: slot.clone(),
            restore: restore.cloned(),
        };
        tasks.zip(&self.slots).map(deploy).collect()
    }

    fn on_deployed(&mut self, task: TaskId) -> Vec<Effect> {
        let Phase::Deploying { vertex, left } = &mut self.phase else { return Vec::new() };
        left.remove(&task);
        match (left.is_empty(), *vertex) {
            (false, _) => Vec::new(),
            (true, Vertex::Count) => self.deploy_vertex(Vertex::Source),
            (true, Vertex::Source) => {
                self.phase = Phase::Running;
                self.finish_if_all_are_in()
            }
        }
    }

    fn on_finished(&mut self, subtask: u32, part: ResultPart) -> Vec<Effect> {
        self.finished.insert(subtask, part);
        self.finish_if_all_are_in()
    }

    fn finish_if_all_are_in(&mut self) -> Vec<Effect> {
        let all = usize::try_from(self.parallelism).expect("bounded");
        if self.phase != Phase::Running || self.finished.len() < all {
            return Vec::new();
        }
        let parts = std::mem::take(&mut self.finished).into_values().collect();
        let effects = self.checkpoints.on_tasks_ended();
        let mut effects = self.wrap(effects);
        self.phase = Phase::Settling { state: JobState::Finished, why: None, parts };
        effects.extend(self.settle());
        effects
    }

    fn on_failed(&mut self, why: String, lasting: Lasting) -> Vec<Effect> {
        match (&mut self.phase, lasting) {
            (Phase::Deploying { .. } | Phase::Running, Lasting::No) => self.end_tasks(Then::Restart, why),
            (Phase::Deploying { .. } | Phase::Running, Lasting::Yes) => {
                self.end_tasks(Then::End { state: JobState::Failed, why: Some(why.clone()) }, why)
            }
            (Phase::Ending { then, .. }, Lasting::Yes) if *then == Then::Restart => {
                *then = Then::End { state: JobState::Failed, why: Some(why) };
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn on_lost(&mut self, executor: &ExecutorId) -> Vec<Effect> {
        if !self.slots.iter().any(|slot| slot.executor == *executor) {
            return Vec::new();
        }
        match &self.phase {
            Phase::Deploying { .. } | Phase::Running => {
                let why = format!("TaskExecutor {executor} is lost");
                let mut effects = self.end_tasks(Then::Restart, why);
                // Its tasks need no ending: nobody can be asked, and the attempt's number keeps their records out.
                effects.retain(|effect| !matches!(effect, Effect::EndTasks { slot, .. } if slot.executor == *executor));
                effects.extend(self.on_ended(executor));
                effects
            }
            Phase::Ending { .. } => self.on_ended(executor),
            _ => Vec::new(),
        }
    }

    fn on_cancel(&mut self) -> Vec<Effect> {
        let then = Then::End { state: JobState::Cancelled, why: None };
        match &mut self.phase {
            Phase::Deploying { .. } | Phase::Running => self.end_tasks(then, "cancelled".to_owned()),
            Phase::Ending { then: planned, .. } => {
                if *planned == Then::Restart {
                    *planned = then;
                }
                Vec::new()
            }
            Phase::New | Phase::WaitingForSlots | Phase::Pausing { .. } => {
                self.phase = Phase::Settling { state: JobState::Cancelled, why: None, parts: Vec::new() };
                self.settle()
            }
            Phase::Settling { .. } | Phase::StoringResult { .. } | Phase::Done { .. } => Vec::new(),
        }
    }

    fn end_tasks(&mut self, then: Then, why: String) -> Vec<Effect> {
        let effects = self.checkpoints.on_tasks_ended();
        let mut effects = self.wrap(effects);
        self.why = Some(why);
        let mut left = BTreeSet::new();
        for slot in &self.slots {
            if left.insert(slot.executor.clone()) {
                effects.push(Effect::EndTasks { attempt: self.attempt, slot: slot.clone() });
            }
        }
        self.phase = Phase::Ending { left, then };
        effects
    }

    fn on_ended(&mut self, executor: &ExecutorId) -> Vec<Effect> {
        let Phase::Ending { left, then } = &mut self.phase else { return Vec::new() };
        left.remove(executor);
        if !left.is_empty() {
            return Vec::new();
        }
        match then.clone() {
            Then::End { state, why } => {
                self.phase = Phase::Settling { state, why, parts: Vec::new() };
                self.settle()
            }
            Then::Restart => {
                self.phase = Phase::Pausing { due: false };
                let doubled = RESTART_PAUSE * 2_u32.pow(self.restarts_in_a_row.min(10));
                let pause = if self.restarts_in_a_row == 0 { Duration::ZERO } else { doubled.min(RESTART_PAUSE_MAX) };
                self.restarts_in_a_row += 1;
                self.slots.clear();
                vec![Effect::ReleaseSlots, Effect::RestartAfter { attempt: self.attempt, pause }]
            }
        }
    }

    /// Goes on with what waited for the outcome of a pointer write.
    fn settle(&mut self) -> Vec<Effect> {
        if self.checkpoints.is_storing() {
            return Vec::new();
        }
        match &mut self.phase {
            Phase::Pausing { due: true } => {
                self.attempt += 1;
                self.request_slots()
            }
            Phase::Settling { state, why, parts } => {
                let (state, why, parts) = (*state, why.take(), std::mem::take(parts));
                self.phase = Phase::StoringResult { state };
                vec![Effect::StoreResult { state, parts, why }]
            }
            _ => Vec::new(),
        }
    }

    fn on_result_stored(&mut self) -> Vec<Effect> {
        let Phase::StoringResult { state } = self.phase else { return Vec::new() };
        self.phase = Phase::Done { state };
        self.slots.clear();
        vec![Effect::ReleaseSlots, Effect::CleanUp]
    }
}
