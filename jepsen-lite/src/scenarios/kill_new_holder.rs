//! Each new holder dies as soon as it is elected.

use super::{BASE, Scenario};
use crate::nemeses::Nemesis;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "kill-new-holder",
    what: "kill -9 each new holder as soon as it is elected, several times in a row",
    candidates: 5,
    nemeses: &[Nemesis::KillNewHolder],
    expects: &[("observe", "ok", None, 5)],
    ..BASE
};
