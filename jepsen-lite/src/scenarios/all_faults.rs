//! Everything at once: links that go wrong while processes do.

use super::{BASE, FIVE, KEEPING, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "all-faults",
    what: "processes are killed, paused and restarted while links between nodes are cut, slow and lossy",
    shape: FIVE,
    workloads: &[Workload::Register, Workload::Cas, Workload::Append, Workload::Sessions, Workload::Watch],
    terms: KEEPING,
    nemeses: &[
        Nemesis::KillHolder,
        Nemesis::KillStoreLeader,
        Nemesis::PauseHolder,
        Nemesis::PauseStoreLeader,
        Nemesis::TransferHolder,
    ],
    beside: &[Nemesis::PartitionOneWay, Nemesis::SlowLinks, Nemesis::LossyLinks, Nemesis::PartitionOne],
    ..BASE
};
