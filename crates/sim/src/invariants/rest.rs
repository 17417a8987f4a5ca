//! Liveness: when nobody resigns any more, somebody holds the election, and it does not change hands.

use std::time::Duration;

use super::Invariant;
use crate::facts::Fact;
use crate::phase::Phase;
use crate::plan::{Plan, Role};

/// Longer than every TTL of the run.
const UNCHANGED: Duration = Duration::from_millis(1_800);

#[derive(Default)]
pub(super) struct ComesToRest {
    /// Somebody could hold it.
    candidates: bool,
    resting: bool,
    /// The newest grant and when something last happened to the election.
    holder: Option<String>,
    changed: Duration,
    now: Duration,
}

impl ComesToRest {
    pub(super) fn new(plan: &Plan) -> ComesToRest {
        ComesToRest { candidates: plan.count(Role::Candidate) > 0, ..ComesToRest::default() }
    }
}

impl Invariant for ComesToRest {
    fn name(&self) -> &'static str {
        "comes-to-rest"
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        match fact {
            Fact::Granted { candidate, .. } => {
                self.holder = Some(candidate.clone());
                self.changed = at;
            }
            Fact::Lost { candidate, .. } | Fact::Resigns { candidate, .. } => {
                if self.holder.as_ref() == Some(candidate) {
                    self.holder = None;
                }
                self.changed = at;
            }
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self, at: Duration) -> Result<(), String> {
        self.now = at;
        Ok(())
    }

    fn phase(&mut self, phase: Phase, at: Duration) {
        self.resting |= phase == Phase::Rest;
        self.changed = at;
    }

    fn missing(&self) -> Option<String> {
        let at_rest =
            !self.resting || !self.candidates || (self.holder.is_some() && self.now >= self.changed + UNCHANGED);
        (!at_rest).then(|| format!("the holder is {:?} since {:?}", self.holder, self.changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_that_changes_is_no_rest() {
        let mut rest = ComesToRest::new(&Plan::draw(1));
        rest.phase(Phase::Rest, Duration::ZERO);
        let granted = Fact::Granted { candidate: "a".into(), token: palisade_fence::Token::new(0, 1), seq: 1 };
        rest.tick(UNCHANGED * 2).expect("it never objects");
        assert!(rest.missing().is_some(), "nobody leads");
        rest.on(&granted, UNCHANGED * 2).expect("it never objects");
        assert!(rest.missing().is_some(), "somebody leads since a moment ago");
        rest.tick(UNCHANGED * 3).expect("it never objects");
        assert_eq!(rest.missing(), None);
    }
}
