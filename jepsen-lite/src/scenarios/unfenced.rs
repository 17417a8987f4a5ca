//! The control: the same workload as `pause-holder` without the fence. A run of it that passes has not seen anything.

use super::{BASE, KEEPING, Scenario};
use crate::nemeses::Nemesis;
use crate::workloads::Workload;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "unfenced",
    what: "CONTROL, must fail: writes of holders past and present without the fence show stale writes that are accepted",
    workloads: &[Workload::UnfencedRegister],
    terms: KEEPING,
    nemeses: &[Nemesis::PauseHolder, Nemesis::KillHolder],
    must_fail: true,
    ..BASE
};
