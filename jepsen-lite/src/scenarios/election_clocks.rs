//! The same, while the clocks of nodes are wrong.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "election-clocks",
    what: "the same candidates, while wall clocks jump and other clocks run at another rate",
    workloads: &[Workload::Election, Workload::Sessions],
    candidates: 0,
    nemeses: &[Nemesis::WallClock, Nemesis::ClockRate],
    expects: &[("campaign", "ok", None, 3), ("confirm", "ok", None, 5)],
    ..BASE
};
