//! What a leading JobManager wrote to its TaskExecutors while it led arrives after its successor has them.

use super::{BASE, RUNTIME, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "job-stale-calls",
    what: "a word count, while calls of the leading JobManager are held on the way and let go after its successor has the TaskExecutors",
    shape: RUNTIME,
    workloads: &[Workload::Job],
    candidates: 0,
    nemeses: &[Nemesis::StaleCalls],
    expects: &[("job_result", "ok", None, 1)],
    ..BASE
};
