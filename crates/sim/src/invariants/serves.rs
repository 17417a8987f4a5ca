//! Liveness: after healing, the store elects somebody and acknowledges writes, of everybody who writes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Invariant;
use crate::facts::{Ended, Fact};
use crate::hosts::candidate::ELECTIONS;
use crate::phase::Phase;
use crate::plan::{Plan, Role, Who};

/// So many acknowledged writes of each writer must come after healing.
const WRITES: u64 = 3;

pub(super) struct ServesAgain {
    candidates: bool,
    healed: bool,
    /// By writer: what was acknowledged since healing.
    writes: BTreeMap<Who, u64>,
    grants: u64,
}

impl ServesAgain {
    pub(super) fn new(plan: &Plan) -> ServesAgain {
        let writers = plan.everybody().filter(|who| who.role.writes());
        let (writes, candidates) = (writers.map(|who| (who, 0)).collect(), plan.count(Role::Candidate) > 0);
        ServesAgain { candidates, healed: false, writes, grants: 0 }
    }
}

impl Invariant for ServesAgain {
    fn name(&self) -> &'static str {
        "serves-again"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if self.healed {
            match fact {
                Fact::WriteEnded { write, ended: Ended::Applied { .. } } => {
                    let of = self.writes.iter_mut().find(|(who, _)| who.has_name(write));
                    of.into_iter().for_each(|(_, count)| *count += 1);
                }
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
        let served = self.writes.values().all(|count| *count >= WRITES) && (self.grants > 0 || !self.candidates);
        let writes = || self.writes.iter().map(|(who, count)| format!("{count} of {who}")).collect::<Vec<_>>();
        (!served)
            .then(|| format!("since healing there were {} grants, and writes: {}", self.grants, writes().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_healing_on() {
        let plan: Plan = "cast node 3 candidate 1 writer 2".parse().expect("a plan");
        let mut serves = ServesAgain::new(&plan);
        let ended = Ended::Applied { seq: 1, revision: 1, changed: true };
        let acknowledged = |number| Fact::WriteEnded { write: format!("writer-{number}.0/1"), ended };
        let granted = Fact::Granted {
            election: ELECTIONS[0].into(),
            candidate: "a".into(),
            token: palisade_fence::Token::new(0, 1),
            seq: 1,
        };
        let on = |serves: &mut ServesAgain, fact: &Fact| serves.on(fact, Duration::ZERO).expect("it never objects");
        on(&mut serves, &granted);
        on(&mut serves, &acknowledged(2));
        serves.phase(Phase::Healed, Duration::ZERO);
        (0..WRITES).for_each(|_| on(&mut serves, &acknowledged(1)));
        on(&mut serves, &granted);
        assert!(serves.missing().is_some(), "the second writer was not served");
        (0..WRITES).for_each(|_| on(&mut serves, &acknowledged(2)));
        assert_eq!(serves.missing(), None);
    }
}
