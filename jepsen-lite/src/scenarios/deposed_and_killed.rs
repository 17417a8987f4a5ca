//! Terms rise past what the log has, and then every node dies: each must still know in which term it voted.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "deposed-and-killed",
    what: "store leaders sleep until they are deposed, and all nodes are killed at once: votes outlive both",
    workloads: &[Workload::Cas],
    candidates: 0,
    nemeses: &[Nemesis::PauseStoreLeader, Nemesis::KillAll],
    expects: &[("cas", "ok", None, 10)],
    ..BASE
};
