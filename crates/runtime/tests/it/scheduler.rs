//! The scheduler of a job, event by event, and under random events.

use std::collections::BTreeSet;
use std::time::Duration;

use palisade_runtime::dataflow::align::CheckpointId;
use palisade_runtime::dataflow::source::SourcePosition;
use palisade_runtime::job::{JobState, ResultPart};
use palisade_runtime::jobmaster::checkpoints::{
    CheckpointEffect, CheckpointPointer, Checkpoints, CompletedCheckpoint, TaskSnapshot,
};
use palisade_runtime::jobmaster::scheduler::{Effect, Event, Lasting, Scheduler};
use palisade_runtime::jobmaster::task::{ExecutorId, Slot, TaskId, Vertex};
use palisade_runtime::storage::Payload;
use palisade_world::{Random, SeededRandom};
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(5);

fn executor(name: &str) -> ExecutorId {
    ExecutorId { name: name.to_owned(), incarnation: 1 }
}

fn slot(name: &str, index: u32) -> Slot {
    Slot { executor: executor(name), address: format!("{name}:1"), data_address: format!("{name}:2"), index }
}

fn payload(path: &str) -> Payload {
    Payload { path: path.to_owned(), length: 1, crc32: 1 }
}

fn part() -> ResultPart {
    ResultPart { payload: payload("part"), words: 1, distinct: 1 }
}

fn completed(id: CheckpointId) -> CompletedCheckpoint {
    CompletedCheckpoint { id, folder: format!("chk-{id}"), metadata: payload("metadata") }
}

fn source(subtask: u32) -> TaskId {
    TaskId { vertex: Vertex::Source, subtask }
}

fn count(subtask: u32) -> TaskId {
    TaskId { vertex: Vertex::Count, subtask }
}

fn position() -> SourcePosition {
    SourcePosition { split: 1, within: None }
}

/// Two subtasks on two TaskExecutors, running.
fn running() -> Scheduler {
    let mut scheduler = Scheduler::new(2, Checkpoints::recovered(2, CheckpointPointer::default(), CheckpointId(0)));
    assert_eq!(scheduler.on(Event::Start, NOW), [Effect::RequestSlots { attempt: 1, count: 2 }]);
    deploy(&mut scheduler, 1);
    scheduler
}

fn deploy(scheduler: &mut Scheduler, attempt: u64) -> Vec<Effect> {
    let effects = scheduler.on(Event::SlotsGranted { attempt, slots: vec![slot("a", 0), slot("b", 0)] }, NOW);
    assert!(matches!(&effects[..], [Effect::Deploy { task: first, .. }, Effect::Deploy { .. }] if *first == count(0)));
    assert_eq!(scheduler.on(Event::Deployed { attempt, task: count(0) }, NOW), []);
    let sources = scheduler.on(Event::Deployed { attempt, task: count(1) }, NOW);
    assert!(matches!(&sources[..], [Effect::Deploy { task: first, .. }, Effect::Deploy { .. }] if *first == source(0)));
    for subtask in 0..2 {
        assert_eq!(scheduler.on(Event::Deployed { attempt, task: source(subtask) }, NOW), []);
    }
    assert_eq!(scheduler.state(), JobState::Running);
    effects
}

fn complete_snapshots(scheduler: &mut Scheduler, attempt: u64) -> CheckpointId {
    let effects = scheduler.on(Event::CheckpointDue, NOW);
    let [Effect::Checkpoint { effect: CheckpointEffect::Trigger(id), .. }] = effects[..] else { panic!("{effects:?}") };
    let mut last = Vec::new();
    for subtask in 0..2 {
        let snapshot = TaskSnapshot::Source(position());
        let _ = scheduler.on(Event::Acknowledged { attempt, id, task: source(subtask), snapshot }, NOW);
        let snapshot = TaskSnapshot::Count(payload("count"));
        last = scheduler.on(Event::Acknowledged { attempt, id, task: count(subtask), snapshot }, NOW);
    }
    assert!(
        matches!(&last[..], [Effect::Checkpoint { effect: CheckpointEffect::Store(metadata), .. }] if metadata.id == id)
    );
    id
}

#[test]
fn a_lost_task_executor_restarts_the_job_from_the_last_completed_checkpoint() {
    let mut scheduler = running();
    let id = complete_snapshots(&mut scheduler, 1);
    let confirm = scheduler.on(Event::CheckpointStored(completed(id)), NOW);
    assert_eq!(confirm, [Effect::Checkpoint { attempt: 1, effect: CheckpointEffect::Confirm(id) }]);

    let effects = scheduler.on(Event::ExecutorLost { executor: executor("a") }, NOW);
    assert_eq!(effects, [Effect::EndTasks { attempt: 1, slot: slot("b", 0) }], "nobody can ask the lost one");
    assert_eq!(scheduler.state(), JobState::Restarting);
    let effects = scheduler.on(Event::TasksEnded { attempt: 1, executor: executor("b") }, NOW);
    assert_eq!(effects, [Effect::ReleaseSlots, Effect::RestartAfter { attempt: 1, pause: Duration::ZERO }]);
    let effects = scheduler.on(Event::RestartDue { attempt: 1 }, NOW);
    assert_eq!(effects, [Effect::RequestSlots { attempt: 2, count: 2 }]);
    let deployed = deploy(&mut scheduler, 2);
    assert!(
        deployed.iter().all(|effect| matches!(effect, Effect::Deploy { restore: Some(from), .. } if from.id == id))
    );
    assert_eq!(scheduler.restored(), Some(id));
}

#[test]
fn no_attempt_starts_while_a_pointer_is_unknown() {
    let mut scheduler = running();
    let id = complete_snapshots(&mut scheduler, 1);
    let _ = scheduler.on(Event::ExecutorLost { executor: executor("a") }, NOW);
    let _ = scheduler.on(Event::TasksEnded { attempt: 1, executor: executor("b") }, NOW);
    assert_eq!(scheduler.on(Event::RestartDue { attempt: 1 }, NOW), [], "the pointer write is in flight");
    let effects = scheduler.on(Event::CheckpointStored(completed(id)), NOW);
    let confirm = Effect::Checkpoint { attempt: 1, effect: CheckpointEffect::Confirm(id) };
    assert_eq!(effects, [confirm, Effect::RequestSlots { attempt: 2, count: 2 }]);
}

#[test]
fn words_of_an_earlier_attempt_are_ignored() {
    let mut scheduler = running();
    let _ = scheduler.on(Event::TaskFailed { attempt: 1, why: "x".to_owned(), lasting: Lasting::No }, NOW);
    for name in ["a", "b"] {
        let _ = scheduler.on(Event::TasksEnded { attempt: 1, executor: executor(name) }, NOW);
    }
    let _ = scheduler.on(Event::RestartDue { attempt: 1 }, NOW);
    deploy(&mut scheduler, 2);
    for subtask in 0..2 {
        assert_eq!(scheduler.on(Event::CountFinished { attempt: 1, subtask, part: part() }, NOW), []);
    }
    assert_eq!(scheduler.on(Event::TaskFailed { attempt: 1, why: "late".to_owned(), lasting: Lasting::Yes }, NOW), []);
    assert_eq!(scheduler.state(), JobState::Running);
    assert_eq!(scheduler.on(Event::CountFinished { attempt: 2, subtask: 0, part: part() }, NOW), []);
    let effects = scheduler.on(Event::CountFinished { attempt: 2, subtask: 1, part: part() }, NOW);
    assert!(matches!(&effects[..], [Effect::StoreResult { state: JobState::Finished, parts, .. }] if parts.len() == 2));
    assert_eq!(scheduler.on(Event::ResultStored, NOW), [Effect::ReleaseSlots, Effect::CleanUp]);
    assert_eq!(scheduler.on(Event::ResultStored, NOW), []);
    assert_eq!(scheduler.state(), JobState::Finished);
}

#[test]
fn a_lasting_failure_and_a_cancel_are_stored() {
    let mut scheduler = running();
    let _ = scheduler.on(Event::TaskFailed { attempt: 1, why: "gone".to_owned(), lasting: Lasting::Yes }, NOW);
    let _ = scheduler.on(Event::TasksEnded { attempt: 1, executor: executor("a") }, NOW);
    let effects = scheduler.on(Event::TasksEnded { attempt: 1, executor: executor("b") }, NOW);
    assert!(
        matches!(&effects[..], [Effect::StoreResult { state: JobState::Failed, why: Some(why), .. }] if why == "gone")
    );

    let mut scheduler = Scheduler::new(1, Checkpoints::recovered(1, CheckpointPointer::default(), CheckpointId(0)));
    let _ = scheduler.on(Event::Start, NOW);
    let effects = scheduler.on(Event::CancelRequested, NOW);
    assert!(matches!(&effects[..], [Effect::StoreResult { state: JobState::Cancelled, .. }]));
    let slots = vec![slot("a", 0)];
    assert_eq!(scheduler.on(Event::SlotsGranted { attempt: 1, slots }, NOW), [], "too late");
}

/// What a perfectly obedient cluster does with the effects, in random order and with random losses.
struct Cluster {
    waiting: Vec<Event>,
    /// (attempt, TaskExecutor) pairs with tasks that may still run.
    alive: BTreeSet<(u64, String)>,
    results: u32,
    stored: Option<CheckpointId>,
}

impl Cluster {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::RequestSlots { attempt, .. } => {
                let slots = vec![slot("a", 0), slot("b", 0)];
                self.waiting.push(Event::SlotsGranted { attempt, slots });
            }
            Effect::Deploy { attempt, task, slot, restore } => {
                assert!(self.alive.iter().all(|(other, _)| *other == attempt), "two attempts at once");
                assert_eq!(restore.map(|from| from.id), self.stored, "not the newest known checkpoint");
                self.alive.insert((attempt, slot.executor.name));
                self.waiting.push(Event::Deployed { attempt, task });
            }
            Effect::EndTasks { attempt, slot } => {
                self.alive.remove(&(attempt, slot.executor.name.clone()));
                self.waiting.push(Event::TasksEnded { attempt, executor: slot.executor });
            }
            Effect::RestartAfter { attempt, .. } => self.waiting.push(Event::RestartDue { attempt }),
            Effect::Checkpoint { attempt, effect: CheckpointEffect::Trigger(id) } => {
                for subtask in 0..2 {
                    let snapshot = TaskSnapshot::Source(position());
                    self.waiting.push(Event::Acknowledged { attempt, id, task: source(subtask), snapshot });
                    let snapshot = TaskSnapshot::Count(payload("count"));
                    self.waiting.push(Event::Acknowledged { attempt, id, task: count(subtask), snapshot });
                }
            }
            Effect::Checkpoint { effect: CheckpointEffect::Store(metadata), .. } => {
                self.waiting.push(Event::CheckpointStored(completed(metadata.id)));
            }
            Effect::StoreResult { .. } => {
                self.results += 1;
                self.waiting.push(Event::ResultStored);
            }
            Effect::ReleaseSlots | Effect::CleanUp | Effect::Checkpoint { .. } => {}
        }
    }
}

proptest! {
    #[test]
    fn under_random_losses_a_job_ends_once_and_never_runs_two_attempts(seed in any::<u64>(), losses in 0u32..8, steps in 50u32..400) {
        let random = SeededRandom::new(seed);
        let below = |n: usize| (random.next_u64() % n as u64) as usize;
        let mut scheduler = Scheduler::new(2, Checkpoints::recovered(2, CheckpointPointer::default(), CheckpointId(0)));
        let mut cluster = Cluster { waiting: Vec::new(), alive: BTreeSet::new(), results: 0, stored: None };
        let mut losses = losses;
        let mut effects = scheduler.on(Event::Start, NOW);
        for step in 0..steps + 2000 {
            for effect in effects.drain(..) {
                cluster.carry_out(effect);
            }
            if scheduler.state().is_terminal() {
                break;
            }
            let attempt = scheduler.attempt();
            let event = match below(10) {
                0 if losses > 0 && step < steps => {
                    losses -= 1;
                    let name = ["a", "b"][below(2)];
                    cluster.alive.retain(|(_, of)| of != name);
                    Event::ExecutorLost { executor: executor(name) }
                }
                1 => Event::CheckpointDue,
                2 if step > steps => Event::CountFinished { attempt, subtask: below(2) as u32, part: part() },
                _ if cluster.waiting.is_empty() => Event::CheckpointDue,
                _ => cluster.waiting.swap_remove(below(cluster.waiting.len())),
            };
            if let Event::CheckpointStored(completed) = &event {
                cluster.stored = Some(completed.id);
            }
            effects = scheduler.on(event, NOW);
        }
        prop_assert_eq!(scheduler.state(), JobState::Finished);
        prop_assert_eq!(cluster.results, 1);
    }
}
