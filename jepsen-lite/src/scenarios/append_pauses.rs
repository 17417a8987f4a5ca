//! Transactions over lists while nodes sleep and die.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "append-pauses",
    what: "transactions that append to lists and read them, while nodes are paused and killed",
    workloads: &[Workload::Append],
    candidates: 0,
    nemeses: &[Nemesis::PauseStoreLeader, Nemesis::KillStoreLeader, Nemesis::PauseMinority],
    expects: &[("txn", "ok", None, 20)],
    ..BASE
};
