//! A holder sleeps past its TTL, is replaced, and wakes: what it writes then must be refused. Also shorter sleeps, which change nothing.

use super::{BASE, KEEPING, Scenario};
use crate::nemeses::Nemesis;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "pause-holder",
    what: "SIGSTOP the holder past its TTL and back, and for less; at least one stale write refused per pause",
    terms: KEEPING,
    nemeses: &[Nemesis::PauseHolder, Nemesis::PauseHolderShort, Nemesis::PauseHolder],
    expects: &[("write", "fail", Some("stale"), 1), ("write", "ok", None, 20), ("read", "ok", None, 20)],
    ..BASE
};
