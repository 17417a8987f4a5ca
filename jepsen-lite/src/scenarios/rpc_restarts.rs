//! Workers remember the highest token that they accepted, also across their own restarts.

use super::{BASE, RUNTIME, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "rpc-restarts",
    what: "tells and asks under tokens past and present to TaskExecutors that are killed and started again",
    shape: RUNTIME,
    workloads: &[Workload::Rpc],
    candidates: 0,
    nemeses: &[Nemesis::KillHolder, Nemesis::KillTaskExecutor, Nemesis::TermTaskExecutor, Nemesis::RestartBehind],
    expects: &[("ask", "ok", None, 20), ("ask", "fail", Some("stale"), 5), ("tell", "fail", Some("stale"), 1)],
    ..BASE
};
