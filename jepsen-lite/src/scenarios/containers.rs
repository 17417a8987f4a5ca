//! Containers: killed, paused and cut off by the engine, under registers, calls and a job.

use super::{BASE, RUNTIME, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "containers",
    what: "containers killed, paused and cut off by the engine, under fenced registers, calls to TaskExecutors and a word count",
    shape: RUNTIME,
    workloads: &[Workload::Register, Workload::Job],
    terms: super::KEEPING,
    nemeses: &[
        Nemesis::KillStoreLeader,
        Nemesis::PartitionLeader,
        Nemesis::KillHolder,
        Nemesis::PauseHolder,
        Nemesis::PauseStoreLeader,
    ],
    expects: &[("write", "fail", Some("stale"), 1), ("job_result", "ok", None, 1)],
    ..BASE
};
