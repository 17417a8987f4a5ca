//! How a job ended. Its record is small and lies in the store; the counts lie in the storage folder, one part per subtask.

use serde::{Deserialize, Serialize};

use super::JobState;
use crate::storage::Payload;

/// The counts of one count subtask; no word is in two parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultPart {
    /// Where they are.
    pub payload: Payload,
    /// Sum of the counts.
    pub words: u64,
    /// Different words.
    pub distinct: u64,
}

/// The last record of a job. Once it is stored the job never runs again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// Finished, cancelled or failed.
    pub state: JobState,
    /// Whether checkpoints and the like are still to be removed.
    pub dirty: bool,
    /// Empty unless it finished.
    pub parts: Vec<ResultPart>,
    /// Why it failed.
    pub why: Option<String>,
    /// The leadership that stored it.
    pub token: u64,
}

impl JobResult {
    /// Sum of all counts.
    pub fn words(&self) -> u64 {
        self.parts.iter().map(|part| part.words).sum()
    }

    /// Different words: parts have none in common.
    pub fn distinct(&self) -> u64 {
        self.parts.iter().map(|part| part.distinct).sum()
    }
}
