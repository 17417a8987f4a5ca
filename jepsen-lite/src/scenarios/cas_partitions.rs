//! Compare-and-set among partitions of three nodes.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "cas-partitions",
    what: "compare-and-set over many keys, among partitions: one node, halves, the store leader",
    workloads: &[Workload::Cas],
    candidates: 0,
    nemeses: &[Nemesis::PartitionOne, Nemesis::PartitionHalves, Nemesis::PartitionLeader],
    expects: &[("cas", "ok", None, 20), ("read", "ok", None, 20)],
    ..BASE
};
