//! Watchers that come back where they were, at another node.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "watch",
    what: "watchers on every node that come back, among kills, pauses, partitions and compactions: every change in order, or a gap",
    workloads: &[Workload::Watch],
    candidates: 0,
    nemeses: &[Nemesis::KillStoreLeader, Nemesis::PauseStoreLeader, Nemesis::PartitionOne, Nemesis::KillMinority],
    expects: &[("watch_event", "ok", None, 100), ("watch", "ok", None, 6), ("watch_gap", "ok", None, 1)],
    ..BASE
};
