//! A node whose disk takes its time: it must neither renew what it may not, nor be waited for.

use super::{BASE, KEEPING, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "slow-disk",
    what: "each fdatasync of a node takes a tenth of a second and more",
    workloads: &[Workload::Register, Workload::Cas],
    terms: KEEPING,
    nemeses: &[Nemesis::SlowDisk],
    ..BASE
};
