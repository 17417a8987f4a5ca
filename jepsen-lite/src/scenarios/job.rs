//! A word count over all of it: leading JobManagers, TaskExecutors and store leaders die, and the counts are exact.

use super::{BASE, RUNTIME, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "job",
    what: "a word count that must come out exactly, while JobManagers, TaskExecutors and store leaders are killed, paused and told to end",
    shape: RUNTIME,
    workloads: &[Workload::Job],
    candidates: 0,
    nemeses: &[
        Nemesis::KillHolder,
        Nemesis::KillTaskExecutor,
        Nemesis::KillStoreLeader,
        Nemesis::TermHolder,
        Nemesis::PauseHolder,
    ],
    expects: &[("job_result", "ok", None, 1)],
    ..BASE
};
