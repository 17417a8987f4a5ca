//! Who belongs to the cluster changes while it serves.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "membership",
    what: "nodes join, vote and are removed, and the store's leader is handed over, under registers, compare-and-set and sessions",
    workloads: &[Workload::Register, Workload::Cas, Workload::Sessions],
    nemeses: &[Nemesis::Membership, Nemesis::TransferStoreLeader],
    ..BASE
};
