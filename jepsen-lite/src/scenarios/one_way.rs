//! Links that carry bytes one way only.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "one-way",
    what: "one node is not heard, or does not hear; compare-and-set and fenced registers",
    workloads: &[Workload::Register, Workload::Cas],
    nemeses: &[Nemesis::PartitionOneWay],
    expects: &[("cas", "ok", None, 10), ("write", "ok", None, 10)],
    ..BASE
};
