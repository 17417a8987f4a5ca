//! Checkers: pure functions of a history.

mod coverage;
mod election;
mod fenced_register;

use crate::history::Record;
use crate::verdict::Finding;

/// What a scenario says must have happened; an empty one (a history checked alone) asks for nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// At least this many holders must have been killed while they held the election.
    pub(crate) kills: usize,
    /// At least this many writes with a stale token must have been refused.
    pub(crate) stale_refused: usize,
}

/// Runs every checker.
pub(crate) fn check(history: &[Record], expected: &Expected) -> Vec<Finding> {
    vec![election::check(history), fenced_register::check(history), coverage::check(history, expected)]
}
