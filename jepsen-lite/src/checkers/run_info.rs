//! The first line of a history: what was run, and what must have happened for it to count.

use serde::{Deserialize, Serialize};

use super::Gate;
use crate::history::{History, Record, f};

/// The `value` of the line `run`. What is missing in the line is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunInfo {
    /// The scenario's name.
    pub scenario: String,
    /// The seed of everything that the harness decided.
    pub seed: u64,
    /// How long faults went on, in seconds.
    pub for_s: u64,
    /// Where the processes ran: `local`, `compose`, ….
    pub target: String,
    /// What the tested binary says to `--version`.
    pub palisade: String,
    /// The commit that the harness was built from.
    pub commit: String,
    /// When it began, of the wall clock. For people; no check uses it.
    pub started_unix_ms: u64,
    /// What must have happened.
    pub gates: Vec<Gate>,
    /// The checkers that must have had something to check.
    pub checkers: Vec<String>,
}

impl RunInfo {
    /// The line `run`, to be written first.
    ///
    /// # Panics
    /// Never: it is plain data.
    pub fn record(&self) -> Record {
        let mut record = Record::seen("harness", f::RUN);
        record.value = serde_json::to_value(self).expect("it is plain data");
        record
    }

    /// What a history says of its run; none for one without a line `run`, or with one that is not of this form.
    pub fn of(history: &History) -> Option<RunInfo> {
        let (_, run) = history.seen(f::RUN).next()?;
        serde_json::from_value(run.value.clone()).ok()
    }
}
