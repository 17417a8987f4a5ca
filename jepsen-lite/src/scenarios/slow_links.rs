//! Links that are slow, and links that lose packets.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "slow-links",
    what: "links between nodes slow by tens of milliseconds, or losing packets",
    workloads: &[Workload::Register, Workload::Cas, Workload::Sessions],
    nemeses: &[Nemesis::SlowLinks, Nemesis::LossyLinks],
    ..BASE
};
