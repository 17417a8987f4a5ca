//! The election's holder is killed again and again; whoever led goes on writing under its token.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "kill-holder",
    what: "kill -9 the election's holder again and again, while every holder writes fenced registers, also after it was replaced",
    nemeses: &[Nemesis::KillHolder],
    expects: &[("write", "fail", Some("stale"), 1), ("write", "ok", None, 20), ("read", "ok", None, 20)],
    ..BASE
};
