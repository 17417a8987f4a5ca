//! Sessions, and keys that end with them, across failovers of the store.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "sessions",
    what: "sessions renewed, closed, left alone and cut, with keys that end with them, under kills, pauses and partitions of the store",
    workloads: &[Workload::Sessions],
    candidates: 0,
    nemeses: &[Nemesis::KillStoreLeader, Nemesis::PauseStoreLeader, Nemesis::PartitionLeader, Nemesis::TermStoreLeader],
    expects: &[("session_open", "ok", None, 5), ("session_keepalive", "ok", None, 10)],
    ..BASE
};
