//! Liveness: after healing, the store elects somebody and acknowledges writes.

use std::time::Duration;

use super::Invariant;
use crate::facts::{Ended, Fact};
use crate::hosts::candidate::ELECTIONS;
use crate::phase::Phase;
use crate::plan::{Plan, Role};

/// So many acknowledged writes must come after healing.
const WRITES: u64 = 5;

pub(super) struct ServesAgain {
    /// Who could be served at all.
    writers: bool,
    candidates: bool,
    healed: bool,
    writes: u64,
    grants: u64,
}

impl ServesAgain {
    pub(super) fn new(plan: &Plan) -> ServesAgain {
        let (writers, candidates) = (plan.count(Role::Writer) > 0, plan.count(Role::Candidate) > 0);
        ServesAgain { writers, candidates, healed: false, writes: 0, grants: 0 }
    }
}

impl Invariant for ServesAgain {
    fn name(&self) -> &'static str {
        "serves-again"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if self.healed {
            match fact {
                Fact::WriteEnded { ended: Ended::Applied { .. }, .. } => self.writes += 1,
                // Everybody stands in the first election: one that is stuck there must not hide behind another.
                Fact::Granted { election, .. } if election == ELECTIONS[0] => self.grants += 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        self.healed |= phase == Phase::Healed;
    }

    fn missing(&self) -> Option<String> {
        let served = (self.writes >= WRITES || !self.writers) && (self.grants > 0 || !self.candidates);
        (!served).then(|| format!("since healing there were {} writes and {} grants", self.writes, self.grants))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_healing_on() {
        let mut serves = ServesAgain::new(&Plan::draw(1));
        let applied = Ended::Applied { seq: 1, revision: 1, changed: true };
        let acknowledged = Fact::WriteEnded { write: "a".into(), ended: applied };
        let granted = Fact::Granted {
            election: ELECTIONS[0].into(),
            candidate: "a".into(),
            token: palisade_fence::Token::new(0, 1),
            seq: 1,
        };
        let on = |serves: &mut ServesAgain, fact: &Fact| serves.on(fact, Duration::ZERO).expect("it never objects");
        on(&mut serves, &granted);
        serves.phase(Phase::Healed, Duration::ZERO);
        (0..WRITES).for_each(|_| on(&mut serves, &acknowledged));
        assert!(serves.missing().is_some(), "the grant came before");
        on(&mut serves, &granted);
        assert_eq!(serves.missing(), None);
    }
}
