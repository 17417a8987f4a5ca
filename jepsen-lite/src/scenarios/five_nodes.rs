//! Partitions that need five nodes: the ring of majorities, and the bridge.

use super::{BASE, FIVE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "five-nodes",
    what: "five nodes: a ring of majorities, a bridge, halves, and a dead minority",
    shape: FIVE,
    workloads: &[Workload::Register, Workload::Cas, Workload::Append],
    nemeses: &[Nemesis::PartitionRing, Nemesis::PartitionBridge, Nemesis::PartitionHalves, Nemesis::KillMinority],
    ..BASE
};
