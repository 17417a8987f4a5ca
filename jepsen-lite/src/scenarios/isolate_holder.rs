//! The holder is cut off from every node for longer than its TTL, and comes back.

use super::{BASE, KEEPING, Scenario};
use crate::nemeses::Nemesis;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "isolate-holder",
    what: "the holder sees no node for longer than its TTL, then all of them again",
    terms: KEEPING,
    nemeses: &[Nemesis::IsolateHolder],
    expects: &[("write", "fail", Some("stale"), 1), ("write", "ok", None, 20), ("read", "ok", None, 20)],
    ..BASE
};
