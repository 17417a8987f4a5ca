//! The holder and the node that leads the store die at the same moment.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "kill-both",
    what: "kill -9 the holder and the store leader at once",
    nemeses: &[Nemesis::KillBoth],
    expects: &[("write", "fail", Some("stale"), 1), ("write", "ok", None, 20), ("read", "ok", None, 20)],
    ..BASE
};
