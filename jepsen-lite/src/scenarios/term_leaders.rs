//! Leaders that are told to end in order: the holder and the node that leads the store.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "term-leaders",
    what: "SIGTERM to the holder and to the store leader, in turn",
    nemeses: &[Nemesis::TermHolder, Nemesis::TermStoreLeader],
    expects: &[("write", "fail", Some("stale"), 1), ("write", "ok", None, 20), ("read", "ok", None, 20)],
    ..BASE
};
