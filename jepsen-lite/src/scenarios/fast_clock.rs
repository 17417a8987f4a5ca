//! A wall clock that runs twice as fast, in small steps: who counted deadlines on it would end sessions at half of their time.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "fast-clock",
    what: "the wall clock of the node that leads the store runs twice as fast: no session ends before its time",
    workloads: &[Workload::Election, Workload::Sessions],
    candidates: 0,
    nemeses: &[Nemesis::WallClockFast],
    expects: &[("campaign", "ok", None, 3), ("confirm", "ok", None, 5), ("session_keepalive", "ok", None, 10)],
    ..BASE
};
