//! Bytes that a leader wrote while it led arrive after its successor has written.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "stale-messages",
    what: "writes of a leader held on the way and let go after its successor has written; each time one must be refused",
    nemeses: &[Nemesis::StaleMessages],
    expects: &[("write", "fail", Some("stale"), 1), ("write", "ok", None, 20), ("read", "ok", None, 20)],
    ..BASE
};
