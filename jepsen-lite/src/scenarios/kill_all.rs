//! Minorities and whole clusters die: nothing that was acknowledged is gone afterwards.

use super::{BASE, FIVE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "kill-all",
    what: "kill -9 a minority of the nodes, and all of them at once",
    shape: FIVE,
    workloads: &[Workload::Register, Workload::Cas],
    nemeses: &[Nemesis::KillMinority, Nemesis::KillAll],
    ..BASE
};
