//! A job as people describe it, in a JSON file for `palisade job submit`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::dataflow::path::InputPath;

/// More subtasks than a cluster of this version can hold slots for.
pub const PARALLELISM_MAX: u32 = 256;

/// Checkpoints more often than this would do nothing but sync files.
const CHECKPOINT_INTERVAL_MIN_MS: u64 = 10;

/// What is done with the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// How often each word occurs. A word is a maximal run of bytes other than 09-0D and 20, per file.
    WordCount,
}

/// Where the words come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Input {
    /// These files; each must be a regular file, not a link.
    Files(Vec<InputPath>),
    /// A file, or every regular file below a folder; links are not followed.
    Path(InputPath),
}

impl Input {
    /// The same with absolute paths: relative ones are relative to the submitter's folder, not to the JobManager's.
    pub fn absolute(&self) -> std::io::Result<Input> {
        let absolute = |path: &InputPath| Ok(InputPath::from(std::path::absolute(path.to_path())?.as_path()));
        match self {
            Input::Path(path) => absolute(path).map(Input::Path),
            Input::Files(paths) => paths.iter().map(absolute).collect::<std::io::Result<_>>().map(Input::Files),
        }
    }
}

/// The description of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// For people; need not be unique.
    pub name: String,
    /// What is done.
    pub kind: JobKind,
    /// Input files, as the JobManagers and TaskExecutors see them.
    pub input: Input,
    /// Source subtasks, and as many count subtasks; each pair shares one slot.
    #[serde(default = "one")]
    pub parallelism: u32,
    /// Time from the start of one checkpoint to the next.
    #[serde(default = "second_ms")]
    pub checkpoint_interval_ms: u64,
    /// Slows the job down: all source subtasks together read no faster than this. `None` or 0: as fast as they can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_bytes_per_second: Option<u64>,
}

fn one() -> u32 {
    1
}

fn second_ms() -> u64 {
    1000
}

/// The description cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {value} {limit}")]
pub struct BadSpec {
    /// Which field.
    pub field: &'static str,
    /// What it says.
    pub value: String,
    /// What it may say.
    pub limit: String,
}

impl JobSpec {
    /// Checks every field that can be checked without looking at files.
    pub fn check(&self) -> Result<(), BadSpec> {
        let bad = |field, value: String, limit: String| Err(BadSpec { field, value, limit });
        if self.name.is_empty() || self.name.len() > 255 {
            return bad("name", format!("of {} bytes", self.name.len()), "is not of 1 to 255 bytes".to_owned());
        }
        if !(1..=PARALLELISM_MAX).contains(&self.parallelism) {
            return bad("parallelism", self.parallelism.to_string(), format!("is not from 1 to {PARALLELISM_MAX}"));
        }
        if self.checkpoint_interval_ms < CHECKPOINT_INTERVAL_MIN_MS {
            let limit = format!("is below {CHECKPOINT_INTERVAL_MIN_MS}");
            return bad("checkpoint_interval_ms", self.checkpoint_interval_ms.to_string(), limit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_description_is_enough() {
        let spec: JobSpec = serde_json::from_str(r#"{"name":"book","kind":"word_count","input":"/books"}"#).unwrap();
        assert_eq!((spec.parallelism, spec.checkpoint_interval_ms), (1, 1000));
        assert_eq!(spec.input, Input::Path(InputPath::from("/books")));
        assert!(spec.check().is_ok());
        let spec: JobSpec =
            serde_json::from_str(r#"{"name":"b","kind":"word_count","input":["/a","/b"],"parallelism":0}"#).unwrap();
        assert_eq!(spec.check().unwrap_err().to_string(), "parallelism: 0 is not from 1 to 256");
        assert!(
            serde_json::from_str::<JobSpec>(r#"{"name":"b","kind":"word_count","input":"/a","paralelism":2}"#).is_err()
        );
    }
}
