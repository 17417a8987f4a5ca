//! Names of keys. All of a cluster's jobs lie below its election's name, so that several clusters can share a store.

use crate::job::JobId;

/// The list of all jobs: there are no ranges to find them by.
pub(crate) fn index(election: &str) -> String {
    format!("jobs/{election}/index")
}

/// What a job is.
pub(crate) fn job(election: &str, id: &JobId) -> String {
    format!("jobs/{election}/{id}/job")
}

/// Its completed checkpoints.
pub(crate) fn checkpoints(election: &str, id: &JobId) -> String {
    format!("jobs/{election}/{id}/checkpoints")
}

/// How it ended.
pub(crate) fn result(election: &str, id: &JobId) -> String {
    format!("jobs/{election}/{id}/result")
}
