//! Runs a count: takes records from all channels, aligns barriers, writes snapshots, and at the end its part of the result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_world::{Task, World};

use super::counters::Counters;
use super::gate::{ChannelItem, InputGate};
use super::report::{Report, Reports};
use super::task_error::TaskError;
use crate::dataflow::align::{Aligned, Aligner, CheckpointId};
use crate::dataflow::count::Counts;
use crate::job::ResultPart;
use crate::jobmaster::checkpoints::TaskSnapshot;
use crate::storage::{Payload, StorageFolder};

/// Everything a count needs.
pub(crate) struct CountTask {
    pub(crate) gate: InputGate,
    pub(crate) sources: usize,
    pub(crate) counts: Counts,
    pub(crate) reports: Reports,
    pub(crate) storage: StorageFolder,
    /// The folder of this attempt in the storage: it has the token in its name.
    pub(crate) folder: String,
    pub(crate) subtask: u32,
    /// Records counted in this attempt.
    pub(crate) progress: Arc<AtomicU64>,
    pub(crate) counters: Counters,
    pub(crate) world: World,
}

impl CountTask {
    /// Runs to the end of all channels. Dropping it ends it; files that it wrote carry the token in their path.
    pub(crate) async fn run(mut self) -> Result<(), TaskError> {
        let mut aligner = Aligner::new(self.sources);
        // One at a time: a newer snapshot replaces one that is still being written, whose checkpoint was given up.
        let mut _snapshot: Option<Task<()>> = None;
        let mut seen = false;
        loop {
            let (channel, item) = self.gate.next(&aligner).await;
            let aligned = match item.ok_or(TaskError::InputBroken(channel))? {
                ChannelItem::Records(bytes) => {
                    let records = self.counts.add_batch(&bytes)?;
                    self.progress.fetch_add(records, Ordering::Relaxed);
                    self.counters.add("records_counted", records);
                    if !seen {
                        seen = true;
                        self.reports.send(Report::Running).await;
                    }
                    Aligned::Wait
                }
                ChannelItem::Barrier(id) => aligner.on_barrier(channel, id),
                ChannelItem::End => aligner.on_end(channel),
            };
            match aligned {
                Aligned::Wait => {}
                Aligned::Snapshot(id) => _snapshot = Some(self.snapshot(id)),
                Aligned::AllEnded => return self.finish().await,
            }
        }
    }

    /// The state as it is now, written while counting goes on.
    fn snapshot(&self, id: CheckpointId) -> Task<()> {
        let bytes = self.counts.snapshot();
        let path = format!("{}/chk-{id}/count-{}", self.folder, self.subtask);
        let (storage, reports, writer) = (self.storage.clone(), self.reports.clone(), self.world.random_u64());
        let world = self.world.clone();
        self.world.spawn("snapshot", async move {
            let report = match write(&world, storage, path, bytes, writer).await {
                Ok(payload) => Report::Acknowledge(id, TaskSnapshot::Count(payload)),
                Err(error) => Report::Decline(id, error.to_string()),
            };
            reports.send(report).await;
        })
    }

    async fn finish(self) -> Result<(), TaskError> {
        let path = format!("{}/result/count-{}", self.folder, self.subtask);
        let (words, distinct) = (self.counts.total(), self.counts.distinct());
        let payload = write(&self.world, self.storage, path, self.counts.snapshot(), self.world.random_u64()).await?;
        self.reports.send(Report::CountFinished(ResultPart { payload, words, distinct })).await;
        Ok(())
    }
}

async fn write(
    world: &World,
    storage: StorageFolder,
    path: String,
    bytes: Vec<u8>,
    writer: u64,
) -> Result<Payload, TaskError> {
    let written = world.blocking("write state", move || storage.write(&path, &bytes, writer)).await;
    Ok(written.map_err(|_| TaskError::Panicked)??)
}
