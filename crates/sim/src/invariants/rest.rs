//! Liveness: when nobody resigns any more, somebody holds the first election, and no election changes hands.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Invariant;
use crate::facts::Fact;
use crate::phase::Phase;
use crate::plan::{Plan, Role, Who};

/// Longer than every TTL of the run.
const UNCHANGED: Duration = Duration::from_millis(1_800);

#[derive(Default)]
pub(super) struct ComesToRest {
    /// Somebody could hold it.
    candidates: bool,
    resting: bool,
    /// By election, if anybody ever led it: the newest holder.
    holders: BTreeMap<String, Option<String>>,
    /// When something last happened to an election.
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
            Fact::Granted { election, candidate, .. } => {
                self.holders.insert(election.clone(), Some(candidate.clone()));
                self.changed = at;
            }
            Fact::Lost { election, candidate, .. } | Fact::Resigns { election, candidate, .. } => {
                let holder = self.holders.entry(election.clone()).or_default();
                if holder.as_ref() == Some(candidate) {
                    *holder = None;
                }
                self.changed = at;
            }
            _ => {}
        }
        Ok(())
    }

    fn gone(&mut self, who: Who) {
        let who = who.to_string();
        let of_it = |holder: &String| holder.rsplit_once('.').is_some_and(|(of, _)| of == who);
        for holder in self.holders.values_mut().filter(|holder| holder.as_ref().is_some_and(of_it)) {
            *holder = None;
        }
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
        // Everybody stands in the first election; in the others perhaps nobody does, just now.
        let first = self.holders.get(crate::hosts::candidate::ELECTIONS[0]);
        let held = first.is_some_and(Option::is_some) || !self.candidates;
        let at_rest = !self.resting || (held && self.now >= self.changed + UNCHANGED);
        (!at_rest).then(|| format!("the holders are {:?} since {:?}", self.holders, self.changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_that_changes_is_no_rest() {
        let mut rest = ComesToRest::new(&Plan::draw(1));
        rest.phase(Phase::Rest, Duration::ZERO);
        let granted = |election: &str| Fact::Granted {
            election: election.into(),
            candidate: "a".into(),
            token: palisade_fence::Token::new(0, 1),
            seq: 1,
        };
        rest.tick(UNCHANGED * 2).expect("it never objects");
        rest.on(&granted("sim-too"), Duration::ZERO).expect("it never objects");
        assert!(rest.missing().is_some(), "nobody leads the first election");
        rest.on(&granted("sim"), UNCHANGED * 2).expect("it never objects");
        assert!(rest.missing().is_some(), "somebody leads since a moment ago");
        rest.tick(UNCHANGED * 3).expect("it never objects");
        assert_eq!(rest.missing(), None);
    }
}
