//! Liveness: when everything has come to rest, every candidate leads or waits somewhere. One that only looks as if it took part
//! must not hide behind those who lead.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_coord_core::{Event, Op, Reply, SessionId};

use super::Invariant;
use super::history::History;
use crate::facts::{Applied, Fact, Restoration};
use crate::hosts::candidate::ELECTIONS;
use crate::phase::Phase;
use crate::plan::{Plan, Role, Who};

pub(super) struct CandidatesStand {
    history: History,
    candidates: Vec<Who>,
    /// By election and candidate id: the session.
    standing: BTreeMap<(String, String), SessionId>,
    resting: bool,
}

impl CandidatesStand {
    pub(super) fn new(plan: &Plan) -> CandidatesStand {
        let candidates = plan.all(Role::Candidate).chain(plan.all(Role::Caller)).collect();
        CandidatesStand { history: History::default(), candidates, standing: BTreeMap::new(), resting: false }
    }

    fn apply(&mut self, applied: &Applied) {
        if let (Op::Campaign { session, election, candidate, .. }, Ok(Reply::Campaigned { .. })) =
            (&applied.command.op, &applied.outcome.reply)
            && ELECTIONS.contains(&election.as_str())
        {
            self.standing.insert((election.clone(), candidate.clone()), *session);
        }
        for event in &applied.outcome.events {
            match event {
                Event::SessionEnded { session, .. } => self.standing.retain(|_, of| of != session),
                Event::Revoked { session, election, .. } | Event::Withdrawn { session, election, .. } => {
                    self.standing.retain(|(standing, _), of| (standing, &*of) != (election, session));
                }
                _ => {}
            }
        }
    }
}

impl Invariant for CandidatesStand {
    fn name(&self) -> &'static str {
        "candidates-stand"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.standing.clear();
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            self.apply(applied);
        }
        Ok(())
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        self.resting |= phase == Phase::Rest;
    }

    fn missing(&self) -> Option<String> {
        if !self.resting {
            return None;
        }
        let stands = |who: &&Who| !self.standing.keys().any(|(_, candidate)| who.has_name(candidate));
        let who = self.candidates.iter().find(stands)?;
        Some(format!("{who} neither leads nor waits anywhere: {:?} do", self.standing.keys()))
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::EndReason;

    use super::super::history::tests::{campaigned, ended, fact};
    use super::*;

    #[test]
    fn who_has_left_is_missing() {
        let plan: Plan = "cast node 3 candidate 1".parse().expect("a plan");
        let mut stands = CandidatesStand::new(&plan);
        let mut then = |mut applied: Applied| {
            if let Op::Campaign { candidate, .. } = &mut applied.command.op {
                *candidate = "candidate-1.0".to_owned();
            }
            stands.on(&fact(applied), Duration::ZERO).expect("it never objects");
            stands.phase(Phase::Rest, Duration::ZERO);
            stands.missing().is_none()
        };
        assert!(!then(campaigned(1, "other", 1, 1)), "that is another election");
        assert!(then(campaigned(2, ELECTIONS[0], 1, 2)));
        assert!(!then(ended(3, 1, EndReason::Expired, Some(1), None)));
    }
}
