//! The long run: a thousand holders and two hundred store leaders.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "thousand-kills",
    what: "1,000 kills of holders and 200 of store leaders, however long that takes (run it with --for 3600s)",
    counts: &[(Nemesis::KillHolder, 1000), (Nemesis::KillStoreLeader, 200)],
    expects: &[("write", "fail", Some("stale"), 1), ("write", "ok", None, 20), ("read", "ok", None, 20)],
    ..BASE
};
