//! A node whose disk is full stops writing, says so, and goes on when there is space.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "full-disk",
    what: "the disk of a node is full for a while",
    workloads: &[Workload::Register, Workload::Cas],
    disks: Some(crate::targets::DiskKind::Small),
    nemeses: &[Nemesis::FullDisk],
    ..BASE
};
