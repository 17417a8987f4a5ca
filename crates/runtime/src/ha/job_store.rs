//! The records of all jobs of a cluster, and how they are written: fenced by the leader's token, and each write repeated under
//! its own request id until it is known to be applied or known to be too late.
//!
//! It keeps true: when a method returns `Ok`, the write is applied; when it returns `Over`, this leader is none any more and
//! must act on nothing. There is no third answer, however long the store is away: the caller's task ends with the leadership.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use palisade_fence::Fence;
use palisade_planted::{self as planted, Bug};
use palisade_rpc::Backoff;
use palisade_world::World;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::keys;
use super::store::{HaStore, PutError};
use crate::job::{JobId, JobResult, JobSpec};
use crate::jobmaster::checkpoints::CheckpointPointer;
use crate::storage::Payload;

/// Reads in flight while a new leader takes the jobs up.
const AT_ONCE: usize = 32;
/// The index is one value, and a value has at most 1 MiB.
const JOBS_MAX: usize = 4096;

/// What a job is: small; its graph lies in the storage folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// As submitted.
    pub spec: JobSpec,
    /// The graph's payload.
    pub graph: Payload,
    /// When it was submitted; for people.
    pub submitted_unix_ms: u64,
}

/// Everything that is stored about a job.
#[derive(Clone, Debug)]
pub struct StoredJob {
    /// The job.
    pub id: JobId,
    /// What it is.
    pub record: JobRecord,
    /// How it ended; `None` while it has not.
    pub result: Option<JobResult>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    jobs: Vec<JobId>,
}

/// A record could not be written, and never will be by this leader.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JobStoreError {
    /// This leadership is over.
    #[error("the leadership is over: {0}")]
    Over(String),
    /// The store refuses the request as it is.
    #[error("the store refuses it: {0}")]
    Refused(String),
    /// Too many jobs.
    #[error("jobs: there are {JOBS_MAX}, the limit; remove some")]
    TooMany,
    /// A record is not what this version writes.
    #[error("key '{key}': {why}")]
    Damaged {
        /// Which.
        key: String,
        /// What is wrong.
        why: String,
    },
}

/// The records, as one leadership writes them. Cheap to clone.
#[derive(Clone)]
pub struct JobStore {
    store: Arc<dyn HaStore>,
    fence: Fence,
    world: World,
}

impl std::fmt::Debug for JobStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobStore").field("fence", &self.fence).finish_non_exhaustive()
    }
}

impl JobStore {
    /// The records under one leadership.
    pub fn new(store: Arc<dyn HaStore>, fence: Fence, world: World) -> JobStore {
        JobStore { store, fence, world }
    }

    /// Every job that was ever acknowledged.
    pub async fn jobs(&self) -> Result<Vec<StoredJob>, JobStoreError> {
        let index: Index = self.read(&keys::index(&self.fence.election)).await?.unwrap_or_default();
        let read = futures_util::stream::iter(index.jobs).map(|id| self.job(id)).buffered(AT_ONCE);
        let jobs: Vec<Option<StoredJob>> = read.try_collect().await?;
        Ok(jobs.into_iter().flatten().collect())
    }

    async fn job(&self, id: JobId) -> Result<Option<StoredJob>, JobStoreError> {
        let Some(record) = self.read(&keys::job(&self.fence.election, &id)).await? else { return Ok(None) };
        let result = self.read(&keys::result(&self.fence.election, &id)).await?;
        Ok(Some(StoredJob { id, record, result }))
    }

    /// Stores a new job: the record, then its place in the index. Only then may it be acknowledged. One at a time.
    pub async fn add(&self, id: &JobId, record: &JobRecord) -> Result<(), JobStoreError> {
        let key = keys::index(&self.fence.election);
        let mut index: Index = self.read(&key).await?.unwrap_or_default();
        if !index.jobs.contains(id) && index.jobs.len() >= JOBS_MAX {
            return Err(JobStoreError::TooMany);
        }
        self.write(&keys::job(&self.fence.election, id), record).await?;
        if !index.jobs.contains(id) {
            index.jobs.push(id.clone());
            self.write(&key, &index).await?;
        }
        Ok(())
    }

    /// The pointer of a job's completed checkpoints.
    pub async fn checkpoints(&self, id: &JobId) -> Result<CheckpointPointer, JobStoreError> {
        Ok(self.read(&keys::checkpoints(&self.fence.election, id)).await?.unwrap_or_default())
    }

    /// Replaces that pointer.
    pub async fn put_checkpoints(&self, id: &JobId, pointer: &CheckpointPointer) -> Result<(), JobStoreError> {
        self.write(&keys::checkpoints(&self.fence.election, id), pointer).await
    }

    /// Removes that pointer; before the payloads that it names.
    pub async fn remove_checkpoints(&self, id: &JobId) -> Result<(), JobStoreError> {
        self.put(&keys::checkpoints(&self.fence.election, id), None).await
    }

    /// How a job ended.
    pub async fn result(&self, id: &JobId) -> Result<Option<JobResult>, JobStoreError> {
        self.read(&keys::result(&self.fence.election, id)).await
    }

    /// Stores how a job ended. From then on it never runs again.
    pub async fn put_result(&self, id: &JobId, result: &JobResult) -> Result<(), JobStoreError> {
        self.write(&keys::result(&self.fence.election, id), result).await
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, JobStoreError> {
        let mut pauses = Backoff::default();
        let value = loop {
            match self.store.get(key).await {
                Ok(value) => break value,
                Err(error) => tracing::warn!(key, %error, fence = %self.fence, "reading again"),
            }
            self.world.sleep(pauses.pause(&self.world)).await;
        };
        let damaged = |why: String| JobStoreError::Damaged { key: key.to_owned(), why };
        value.map(|bytes| serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))).transpose()
    }

    async fn write<T: Serialize>(&self, key: &str, value: &T) -> Result<(), JobStoreError> {
        let bytes = serde_json::to_vec(value).map_err(|error| JobStoreError::Refused(error.to_string()))?;
        self.put(key, Some(&bytes)).await
    }

    /// One write: the same request id until its outcome is known.
    async fn put(&self, key: &str, value: Option<&[u8]>) -> Result<(), JobStoreError> {
        let mut pauses = Backoff::default();
        let request = self.store.begin().map_err(|error| JobStoreError::Over(error.to_string()))?;
        let outcome = loop {
            match self.store.put(request, key, value, &self.fence).await {
                Ok(()) => break Ok(()),
                Err(PutError::Refused(why)) => break Err(JobStoreError::Refused(why)),
                Err(error @ (PutError::Stale { .. } | PutError::SessionEnded(_))) => {
                    break Err(JobStoreError::Over(error.to_string()));
                }
                Err(PutError::Unknown(_)) if planted::is(Bug::ConfirmUnknownPointer) => {
                    break Ok(());
                }
                Err(error @ (PutError::NotApplied(_) | PutError::Unknown(_))) => {
                    tracing::warn!(key, %error, fence = %self.fence, request = request.0, "writing again under the same request id");
                }
            }
            self.world.sleep(pauses.pause(&self.world)).await;
        };
        self.store.forget(request);
        outcome
    }
}
