//! The power fails under one node, or under all: what was acknowledged is on the disks of a majority.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "power-cut",
    what: "the power fails under the store leader, or under all nodes at once: what was not synced is lost, what was acknowledged is not",
    workloads: &[Workload::Register, Workload::Cas],
    disks: Some(crate::targets::DiskKind::Loop),
    nemeses: &[Nemesis::PowerCut, Nemesis::PowerCutAll],
    expects: &[("write", "ok", None, 10), ("cas", "ok", None, 5)],
    ..BASE
};
