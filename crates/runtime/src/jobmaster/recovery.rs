//! What a JobMaster finds when it takes a job up.
//!
//! It keeps true: the pointer is read after this leadership was granted, so that no earlier leader can change it any more;
//! only then are payloads above it removed.

use palisade_world::World;

use super::checkpoints::{CheckpointMetadata, CheckpointPointer, CompletedCheckpoint};
use super::job_master::JobMasterContext;
use crate::dataflow::align::CheckpointId;
use crate::storage::{StorageError, StorageFolder};

/// The state of a job that an earlier leader left.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) pointer: CheckpointPointer,
    /// Of the newest checkpoint.
    pub(crate) metadata: Option<CheckpointMetadata>,
    /// The highest number of which there is any trace.
    pub(crate) seen: CheckpointId,
}

/// Why a job cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    #[error(transparent)]
    Store(#[from] crate::ha::JobStoreError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("checkpoint {id}: {why}")]
    Metadata { id: CheckpointId, why: String },
}

/// Reads the pointer and the newest metadata; removes what no pointer names.
pub(crate) async fn recover(cx: &JobMasterContext) -> Result<Recovered, RecoveryError> {
    let pointer = cx.store.checkpoints(&cx.graph.id).await?;
    let metadata = match pointer.completed.last() {
        Some(newest) => Some(read_metadata(&cx.world, &cx.storage, newest).await?),
        None => None,
    };
    let (storage, root) = (cx.storage.clone(), format!("jobs/{}", cx.graph.id));
    let kept: Vec<String> = pointer.completed.iter().map(|completed| completed.folder.clone()).collect();
    let own = cx.fence.token.get();
    let swept = cx.world.blocking("sweep", move || sweep(&storage, &root, &kept, own)).await;
    let seen = swept.unwrap_or(CheckpointId(0));
    tracing::info!(job = %cx.graph.id, fence = %cx.fence, newest = ?metadata.as_ref().map(|metadata| metadata.id), "taking the job up");
    Ok(Recovered { pointer, metadata, seen })
}

/// Reads the metadata of a completed checkpoint.
pub(crate) async fn read_metadata(
    world: &World,
    storage: &StorageFolder,
    completed: &CompletedCheckpoint,
) -> Result<CheckpointMetadata, RecoveryError> {
    let (storage, payload, id) = (storage.clone(), completed.metadata.clone(), completed.id);
    let bad = |why: String| RecoveryError::Metadata { id, why };
    let read = world.blocking("read metadata", move || storage.read(&payload)).await;
    let bytes = read.map_err(|error| bad(error.to_string()))??;
    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
}

/// Removes checkpoints of earlier leaders that no pointer names; returns the highest number found. Failures are left for the
/// job's end: nothing here is ever read again.
///
/// Only of *earlier* leaders: this one may have been replaced since it read the pointer, and then its successor's checkpoints
/// are in pointers that it has not seen.
fn sweep(storage: &StorageFolder, root: &str, kept: &[String], own: u64) -> CheckpointId {
    let mut seen = CheckpointId(0);
    for attempt in storage.list(root).unwrap_or_default() {
        let token = attempt.split_once('-').and_then(|(token, _)| token.parse::<u64>().ok());
        let folder = format!("{root}/{attempt}");
        for name in storage.list(&folder).unwrap_or_default() {
            let Some(number) = name.strip_prefix("chk-").and_then(|number| number.parse().ok()) else { continue };
            seen = seen.max(CheckpointId(number));
            let checkpoint = format!("{folder}/{name}");
            if !kept.contains(&checkpoint) && token.is_some_and(|token| token < own) {
                let _ = storage.remove(&checkpoint);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use palisade_world::LocalFiles;

    use super::*;

    #[test]
    fn a_replaced_leader_that_sweeps_late_leaves_its_successors_checkpoints() {
        let root = tempfile::tempdir().unwrap();
        let storage = StorageFolder::open(Arc::new(LocalFiles), root.path()).unwrap();
        for path in
            ["jobs/j/4-1/chk-2/metadata", "jobs/j/4-1/chk-3/metadata", "jobs/j/5-1/chk-4/a", "jobs/j/6-1/chk-9/a"]
        {
            storage.write(path, b"x", 1).unwrap();
        }
        let seen = sweep(&storage, "jobs/j", &["jobs/j/4-1/chk-3".to_owned()], 5);
        assert_eq!(seen, CheckpointId(9));
        assert_eq!(storage.list("jobs/j/4-1").unwrap(), ["chk-3"]);
        assert_eq!(storage.list("jobs/j/5-1").unwrap(), ["chk-4"]);
        assert_eq!(storage.list("jobs/j/6-1").unwrap(), ["chk-9"]);
    }
}
