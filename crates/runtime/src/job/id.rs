//! A job's id: chosen by whoever submits it, so that a repeated submission is the same job.

use std::str::FromStr;

use palisade_world::World;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// It is part of file names and keys.
const LENGTH_MAX: usize = 64;

/// Names a job for ever. 1 to 64 letters, digits, `-` and `_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

/// The text is not a job id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("job id: '{0}' is not 1 to {LENGTH_MAX} letters, digits, '-' and '_'")]
pub struct BadJobId(pub String);

impl JobId {
    /// A new one, from 64 random bits.
    pub fn random(world: &World) -> JobId {
        JobId(format!("{:016x}", world.random_u64()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobId {
    type Err = BadJobId;

    fn from_str(text: &str) -> Result<JobId, BadJobId> {
        let fits = (1..=LENGTH_MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            Ok(JobId(text.to_owned()))
        } else {
            Err(BadJobId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = BadJobId;

    fn try_from(text: String) -> Result<JobId, BadJobId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> String {
        id.0
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_its_folder() {
        assert!("a-B_9".parse::<JobId>().is_ok());
        for bad in ["", "..", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }
}
