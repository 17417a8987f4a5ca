//! The power fails under all nodes at once, again and again: whoever answers before it has synced is caught by what nobody has then.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "blackout",
    what: "the power fails under all nodes at once, again and again, while their disks are slow: what was acknowledged is on a majority of them",
    workloads: &[Workload::Register, Workload::Cas],
    disks: Some(crate::targets::DiskKind::Loop),
    nemeses: &[Nemesis::PowerCutAll],
    expects: &[("write", "ok", None, 10), ("cas", "ok", None, 5)],
    ..BASE
};
