//! What a JobMaster and its tasks run: the description with everything fixed that could change between attempts.

use serde::{Deserialize, Serialize};

use super::{JobId, JobSpec};
use crate::dataflow::split::InputFile;

/// Splits per source subtask that we aim at: enough that the subtasks end at about the same time.
const SPLITS_PER_SUBTASK: u64 = 8;
/// Below this the skipping at borders costs more than the balance is worth.
const SPLIT_MIN: u64 = 16 << 10;
/// Above this a balance would be lost on large inputs.
const SPLIT_MAX: u64 = 64 << 20;

/// A job, ready to run. Its payload lies in the storage folder; it never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobGraph {
    /// The job.
    pub id: JobId,
    /// As submitted.
    pub spec: JobSpec,
    /// The input, sizes fixed.
    pub files: Vec<InputFile>,
    /// Where files are cut.
    pub split_bytes: u64,
}

impl JobGraph {
    /// Fixes what could change.
    pub fn new(id: JobId, spec: JobSpec, files: Vec<InputFile>) -> JobGraph {
        let total: u64 = files.iter().map(|file| file.size).sum();
        let splits = u64::from(spec.parallelism.max(1)) * SPLITS_PER_SUBTASK;
        let split_bytes = total.div_ceil(splits).clamp(SPLIT_MIN, SPLIT_MAX);
        JobGraph { id, spec, files, split_bytes }
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}
