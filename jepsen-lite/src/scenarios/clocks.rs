//! Wall clocks that jump by up to days: nothing may depend on them.

use super::{BASE, KEEPING, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "clocks",
    what: "wall clocks that jump by up to days, and clocks 0.5 % off, under the fenced registers and sessions",
    workloads: &[Workload::Register, Workload::Sessions],
    terms: KEEPING,
    nemeses: &[Nemesis::WallClock, Nemesis::ClockRate],
    ..BASE
};
