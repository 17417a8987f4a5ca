//! Candidates that trust their clocks, among store failovers, transfers and cut links: two never believe at once.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "election",
    what: "candidates of the harness's own that keep until the TTL, resign, close and transfer, under kills, pauses and partitions of the store",
    workloads: &[Workload::Election],
    candidates: 0,
    nemeses: &[Nemesis::KillStoreLeader, Nemesis::PauseStoreLeader, Nemesis::PartitionLeader, Nemesis::PartitionOne],
    expects: &[("campaign", "ok", None, 3), ("resign", "ok", None, 1), ("confirm", "ok", None, 10)],
    ..BASE
};
