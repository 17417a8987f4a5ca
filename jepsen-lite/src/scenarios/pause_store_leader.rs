//! The node that leads the store sleeps through an election and wakes believing that it leads.

use super::{BASE, KEEPING, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "pause-store-leader",
    what: "SIGSTOP the store leader for longer than an election and back; also a minority",
    workloads: &[Workload::Register, Workload::Cas],
    terms: KEEPING,
    nemeses: &[Nemesis::PauseStoreLeader, Nemesis::PauseMinority],
    ..BASE
};
