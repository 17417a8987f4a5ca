//! Liveness: when everything has come to rest, whoever leads an election knows it. A grant whose candidate is gone, or has given
//! up, must not stand in the store for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_fence::Token;

use super::Invariant;
use super::history::History;
use crate::facts::{Fact, Restoration};
use crate::hosts::candidate::ELECTIONS;
use crate::phase::Phase;
use crate::plan::Who;

#[derive(Default)]
pub(super) struct LeadersKnowIt {
    history: History,
    /// By election: who leads in the store.
    leads: BTreeMap<String, Token>,
    /// Who believes that: tokens with the candidates' names.
    knows: BTreeSet<(Token, String)>,
    resting: bool,
}

impl Invariant for LeadersKnowIt {
    fn name(&self) -> &'static str {
        "leaders-know-it"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.leads.clear();
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            for change in applied.changes().filter(|change| ELECTIONS.contains(&change.election)) {
                match change.began {
                    Some(grant) => self.leads.insert(change.election.to_owned(), grant.token),
                    None => self.leads.remove(change.election),
                };
            }
        }
        match fact {
            Fact::Granted { candidate, token, .. } => {
                self.knows.insert((*token, candidate.clone()));
            }
            Fact::Lost { candidate, token, .. } | Fact::Resigns { candidate, token, .. } => {
                self.knows.remove(&(*token, candidate.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    fn gone(&mut self, who: Who) {
        self.knows.retain(|(_, candidate)| !who.has_name(candidate));
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        self.resting |= phase == Phase::Rest;
    }

    fn missing(&self) -> Option<String> {
        let unknown = |(_, token): &(&String, &Token)| !self.knows.iter().any(|(known, _)| known == *token);
        let (election, token) = self.leads.iter().find(unknown).filter(|_| self.resting)?;
        Some(format!("{token} leads {election:?}, and nobody knows it"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{campaigned, fact};
    use super::*;

    #[test]
    fn a_leader_that_does_not_know_it_is_missed() {
        let mut knows = LeadersKnowIt::default();
        let mut then = |fact: Fact| {
            knows.on(&fact, Duration::ZERO).expect("it never objects");
            knows.phase(Phase::Rest, Duration::ZERO);
            knows.missing().is_none()
        };
        let (election, candidate, token) = (ELECTIONS[0].to_owned(), String::from("candidate-1.0"), Token::new(0, 1));
        assert!(!then(fact(campaigned(1, ELECTIONS[0], 1, 1))));
        let granted = Fact::Granted { election: election.clone(), candidate: candidate.clone(), token, seq: 1 };
        assert!(then(granted));
        assert!(!then(Fact::Resigns { election, candidate, token }), "it has given up");
        knows.gone(Who::node(1));
    }
}
