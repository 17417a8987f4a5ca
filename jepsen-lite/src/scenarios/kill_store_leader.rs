//! The node that leads the store is killed again and again; no holder loses anything by it.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "kill-store-leader",
    what: "kill -9 the store leader again and again, under the fenced registers",
    nemeses: &[Nemesis::KillStoreLeader],
    expects: &[("write", "ok", None, 20), ("read", "ok", None, 20)],
    ..BASE
};
