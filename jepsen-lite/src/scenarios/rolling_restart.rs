//! One node after the other is told to end and started again.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "rolling-restart",
    what: "one node after the other ends in order and comes back, under registers, compare-and-set and sessions",
    workloads: &[Workload::Register, Workload::Cas, Workload::Sessions],
    nemeses: &[Nemesis::RollingRestart, Nemesis::TransferHolder],
    ..BASE
};
