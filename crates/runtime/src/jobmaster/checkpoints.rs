//! Coordinates the checkpoints of one job: one at a time, complete only when its pointer is known to be stored.
//!
//! Pure: it decides, the JobMaster carries out. It keeps true what makes results exact (RUNTIME, "Exactly once"): while the
//! outcome of a pointer write is not known, nothing of that checkpoint is confirmed, aborted or removed, and no other
//! checkpoint is begun; payloads are removed only after a pointer that no longer names them is known to be stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::task::{TaskId, Vertex};
use crate::dataflow::align::CheckpointId;
use crate::dataflow::source::SourcePosition;
use crate::storage::Payload;

/// Completed checkpoints that the pointer names: the newest to restore from, and one more for people.
pub const RETAINED: usize = 2;

/// A checkpoint that has not completed after this long is given up; a slow disk must not stop all later ones.
pub const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(60);

/// What a task acknowledges a checkpoint with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskSnapshot {
    /// A source's state is small and travels in the acknowledgement.
    Source(SourcePosition),
    /// A count's state lies in the storage folder.
    Count(Payload),
}

/// The metadata of a checkpoint: everything that a new attempt needs. Its payload lies in the storage folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMetadata {
    /// Its number.
    pub id: CheckpointId,
    /// State of the sources by subtask.
    pub sources: Vec<SourcePosition>,
    /// State of the counts by subtask.
    pub counts: Vec<Payload>,
}

/// A completed checkpoint, as the pointer names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedCheckpoint {
    /// Its number.
    pub id: CheckpointId,
    /// The folder that holds all of it; contains the token.
    pub folder: String,
    /// Its metadata.
    pub metadata: Payload,
}

/// The pointer: the value of one key, replaced as a whole by a fenced write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPointer {
    /// Oldest first, at most [`RETAINED`].
    pub completed: Vec<CompletedCheckpoint>,
}

/// What the JobMaster is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum CheckpointEffect {
    /// Tell the sources to send barriers.
    Trigger(CheckpointId),
    /// Write the metadata payload, then the pointer; repeat until its outcome is known; then report.
    Store(CheckpointMetadata),
    /// The pointer is known to be stored: tell the tasks.
    Confirm(CheckpointId),
    /// No pointer names this folder any more, or ever will: remove it.
    Remove(String),
    /// An unfinished checkpoint is given up; its folder of this attempt may be removed.
    Abort(CheckpointId),
}

#[derive(Clone, Debug)]
struct Pending {
    id: CheckpointId,
    begun: Duration,
    snapshots: BTreeMap<TaskId, TaskSnapshot>,
}

/// The coordinator.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    parallelism: u32,
    next: CheckpointId,
    pending: Option<Pending>,
    /// Its metadata or pointer is being written: the outcome is not known.
    storing: Option<CheckpointId>,
    /// As the stored pointer says.
    pointer: CheckpointPointer,
    /// Sources that have read everything, with their final position: they acknowledge without being asked.
    ended: BTreeMap<u32, SourcePosition>,
    completed_here: u64,
}

impl Checkpoints {
    /// Goes on from the stored pointer. `seen` is the highest number that left any trace, so that a number is never reused.
    pub fn recovered(parallelism: u32, pointer: CheckpointPointer, seen: CheckpointId) -> Checkpoints {
        let newest = pointer.completed.last().map_or(CheckpointId(0), |completed| completed.id);
        Checkpoints {
            parallelism,
            next: CheckpointId(newest.max(seen).0 + 1),
            pending: None,
            storing: None,
            pointer,
            ended: BTreeMap::new(),
            completed_here: 0,
        }
    }

    /// The newest completed checkpoint.
    pub fn newest(&self) -> Option<&CompletedCheckpoint> {
        self.pointer.completed.last()
    }

    /// How many completed since [`Checkpoints::recovered`].
    pub fn completed_here(&self) -> u64 {
        self.completed_here
    }

    /// Whether a pointer write is in flight.
    pub fn is_storing(&self) -> bool {
        self.storing.is_some()
    }

    /// The pointer as it is to be when `completed` is added.
    pub fn pointer_with(&self, completed: CompletedCheckpoint) -> CheckpointPointer {
        let mut pointer = self.pointer.clone();
        pointer.completed.push(completed);
        let surplus = pointer.completed.len().saturating_sub(RETAINED);
        pointer.completed.drain(..surplus);
        pointer
    }

    /// Time for the next checkpoint: begins one unless one is in progress or the job is ending.
    pub fn on_tick(&mut self, now: Duration) -> Vec<CheckpointEffect> {
        let mut effects = Vec::new();
        if self.pending.as_ref().is_some_and(|pending| now.saturating_sub(pending.begun) >= CHECKPOINT_TIMEOUT) {
            effects.extend(self.abort());
        }
        let all_ended = self.ended.len() == usize::try_from(self.parallelism).unwrap_or(usize::MAX);
        if self.pending.is_some() || self.storing.is_some() || all_ended {
            return effects;
        }
        let id = self.next;
        self.next = CheckpointId(id.0 + 1);
        let ended = self.ended.iter().map(|(subtask, position)| {
            (TaskId { vertex: Vertex::Source, subtask: *subtask }, TaskSnapshot::Source(*position))
        });
        self.pending = Some(Pending { id, begun: now, snapshots: ended.collect() });
        effects.push(CheckpointEffect::Trigger(id));
        effects
    }

    /// A task's snapshot is durable.
    pub fn on_acknowledged(&mut self, id: CheckpointId, task: TaskId, snapshot: TaskSnapshot) -> Vec<CheckpointEffect> {
        let Some(pending) = self.pending.as_mut().filter(|pending| pending.id == id) else { return Vec::new() };
        pending.snapshots.insert(task, snapshot);
        self.complete_if_all_are_in()
    }

    /// A source has read everything. Its final position acknowledges the checkpoint in progress, if its barrier was never
    /// sent: the end of its channels stands for the barrier.
    pub fn on_source_ended(&mut self, subtask: u32, position: SourcePosition) -> Vec<CheckpointEffect> {
        self.ended.insert(subtask, position);
        if let Some(pending) = &mut self.pending {
            let task = TaskId { vertex: Vertex::Source, subtask };
            pending.snapshots.entry(task).or_insert(TaskSnapshot::Source(position));
        }
        self.complete_if_all_are_in()
    }

    /// A task could not take its snapshot.
    pub fn on_declined(&mut self, id: CheckpointId) -> Vec<CheckpointEffect> {
        if self.pending.as_ref().is_some_and(|pending| pending.id == id) { self.abort() } else { Vec::new() }
    }

    /// The pointer with this checkpoint is *known* to be stored. Until this is called nothing is confirmed or removed.
    pub fn on_stored(&mut self, completed: CompletedCheckpoint) -> Vec<CheckpointEffect> {
        if self.storing != Some(completed.id) {
            return Vec::new();
        }
        self.storing = None;
        self.completed_here += 1;
        let id = completed.id;
        let pointer = self.pointer_with(completed);
        let kept: BTreeSet<&str> = pointer.completed.iter().map(|kept| kept.folder.as_str()).collect();
        let dropped = self.pointer.completed.iter().filter(|old| !kept.contains(old.folder.as_str()));
        let mut effects = vec![CheckpointEffect::Confirm(id)];
        effects.extend(dropped.map(|old| CheckpointEffect::Remove(old.folder.clone())));
        self.pointer = pointer;
        effects
    }

    /// The metadata payload could not be written, so no pointer write was begun.
    pub fn on_not_written(&mut self, id: CheckpointId) -> Vec<CheckpointEffect> {
        if self.storing != Some(id) {
            return Vec::new();
        }
        self.storing = None;
        vec![CheckpointEffect::Abort(id)]
    }

    /// The tasks are being ended: what is pending is given up; what is being stored goes on.
    pub fn on_tasks_ended(&mut self) -> Vec<CheckpointEffect> {
        self.ended.clear();
        self.abort()
    }

    fn abort(&mut self) -> Vec<CheckpointEffect> {
        self.pending.take().map(|pending| CheckpointEffect::Abort(pending.id)).into_iter().collect()
    }

    fn complete_if_all_are_in(&mut self) -> Vec<CheckpointEffect> {
        let tasks = usize::try_from(u64::from(self.parallelism) * 2).unwrap_or(usize::MAX);
        if self.pending.as_ref().is_none_or(|pending| pending.snapshots.len() < tasks) {
            return Vec::new();
        }
        let Some(pending) = self.pending.take() else { return Vec::new() };
        let mut metadata = CheckpointMetadata { id: pending.id, sources: Vec::new(), counts: Vec::new() };
        // In the order of the subtasks, because the map is ordered.
        for snapshot in pending.snapshots.into_values() {
            match snapshot {
                TaskSnapshot::Source(position) => metadata.sources.push(position),
                TaskSnapshot::Count(payload) => metadata.counts.push(payload),
            }
        }
        assert!(self.storing.is_none(), "one checkpoint at a time is begun, so no other is being stored");
        self.storing = Some(pending.id);
        vec![CheckpointEffect::Store(metadata)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn source(subtask: u32) -> TaskId {
        TaskId { vertex: Vertex::Source, subtask }
    }

    fn count(subtask: u32) -> TaskId {
        TaskId { vertex: Vertex::Count, subtask }
    }

    fn position(split: u64) -> SourcePosition {
        SourcePosition { split, within: None }
    }

    fn payload(path: &str) -> Payload {
        Payload { path: path.to_owned(), length: 0, crc32: 0 }
    }

    fn completed(id: u64) -> CompletedCheckpoint {
        CompletedCheckpoint { id: CheckpointId(id), folder: format!("chk-{id}"), metadata: payload("m") }
    }

    fn complete(checkpoints: &mut Checkpoints) -> CheckpointId {
        let [CheckpointEffect::Trigger(id)] = checkpoints.on_tick(NOW)[..] else { panic!("one is begun") };
        assert_eq!(checkpoints.on_acknowledged(id, source(0), TaskSnapshot::Source(position(3))), []);
        let effects = checkpoints.on_acknowledged(id, count(0), TaskSnapshot::Count(payload("c")));
        let metadata = CheckpointMetadata { id, sources: vec![position(3)], counts: vec![payload("c")] };
        assert_eq!(effects, [CheckpointEffect::Store(metadata)]);
        id
    }

    #[test]
    fn nothing_is_confirmed_or_removed_until_the_pointer_is_known() {
        let mut checkpoints = Checkpoints::recovered(1, CheckpointPointer::default(), CheckpointId(4));
        let id = complete(&mut checkpoints);
        assert_eq!(id, CheckpointId(5), "above everything that left a trace");
        assert_eq!(checkpoints.on_tick(NOW * 1000), [], "no other is begun, and it does not time out");
        assert_eq!(checkpoints.on_declined(id), []);
        assert_eq!(checkpoints.on_tasks_ended(), [], "it is not aborted with its tasks");
        assert!(checkpoints.is_storing() && checkpoints.newest().is_none());
        assert_eq!(checkpoints.on_stored(completed(5)), [CheckpointEffect::Confirm(id)]);
        assert_eq!(checkpoints.newest(), Some(&completed(5)));
    }

    #[test]
    fn older_payloads_go_only_after_the_pointer_moved_on() {
        let pointer = CheckpointPointer { completed: vec![completed(1), completed(2)] };
        let mut checkpoints = Checkpoints::recovered(1, pointer, CheckpointId(0));
        let id = complete(&mut checkpoints);
        assert_eq!(checkpoints.pointer_with(completed(3)).completed, [completed(2), completed(3)]);
        let effects = checkpoints.on_stored(completed(3));
        assert_eq!(effects, [CheckpointEffect::Confirm(id), CheckpointEffect::Remove("chk-1".to_owned())]);
        assert_eq!(checkpoints.on_stored(completed(3)), [], "a late second report changes nothing");
    }

    #[test]
    fn an_ended_source_acknowledges_by_its_end() {
        let mut checkpoints = Checkpoints::recovered(2, CheckpointPointer::default(), CheckpointId(0));
        let [CheckpointEffect::Trigger(id)] = checkpoints.on_tick(NOW)[..] else { panic!("one is begun") };
        assert_eq!(checkpoints.on_source_ended(0, position(9)), []);
        assert_eq!(checkpoints.on_acknowledged(id, count(0), TaskSnapshot::Count(payload("a"))), []);
        assert_eq!(checkpoints.on_acknowledged(id, count(1), TaskSnapshot::Count(payload("b"))), []);
        let effects = checkpoints.on_acknowledged(id, source(1), TaskSnapshot::Source(position(1)));
        assert!(matches!(&effects[..], [CheckpointEffect::Store(m)] if m.sources == [position(9), position(1)]));
        let _ = checkpoints.on_stored(completed(1));
        let _ = checkpoints.on_source_ended(1, position(9));
        assert_eq!(checkpoints.on_tick(NOW * 2), [], "all sources have ended: the result comes next");
    }

    #[test]
    fn a_slow_checkpoint_is_given_up_and_a_late_acknowledgement_ignored() {
        let mut checkpoints = Checkpoints::recovered(1, CheckpointPointer::default(), CheckpointId(0));
        let _ = checkpoints.on_tick(NOW);
        let effects = checkpoints.on_tick(NOW + CHECKPOINT_TIMEOUT);
        assert_eq!(effects, [CheckpointEffect::Abort(CheckpointId(1)), CheckpointEffect::Trigger(CheckpointId(2))]);
        assert_eq!(checkpoints.on_acknowledged(CheckpointId(1), source(0), TaskSnapshot::Source(position(0))), []);
    }
}
