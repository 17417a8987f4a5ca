//! `elect run`: its children do not fence, so two must never act at once, whatever happens to their guards.

use super::{BASE, KEEPING, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "mutual-exclusion",
    what: "children of elect run that say all the time that they act, while their guards are killed, paused and cut off: two never act at once",
    workloads: &[Workload::Runners],
    terms: KEEPING,
    nemeses: &[Nemesis::PauseHolder, Nemesis::KillHolder, Nemesis::IsolateHolder, Nemesis::TermHolder],
    expects: &[("campaign", "ok", None, 3), ("act", "ok", None, 100)],
    ..BASE
};
