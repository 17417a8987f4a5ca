//! Belief intervals of *keep until the TTL* sessions do not overlap: while one candidate's deadline has not passed, no other
//! believes that it leads the same election. Unless somebody broke the holder's guard knowingly: then all that it has is its token.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_coord_core::Guard;
use palisade_fence::Token;

use super::Invariant;
use super::history::History;
use crate::facts::{Fact, Restoration};
use crate::plan::Who;

#[derive(Default)]
pub(super) struct BeliefsDoNotOverlap {
    history: History,
    /// Tokens that were ended by force.
    broken: BTreeSet<Token>,
    /// By election and candidate: the token and the deadline.
    believers: BTreeMap<(String, String), (Token, Duration)>,
}

impl Invariant for BeliefsDoNotOverlap {
    fn name(&self) -> &'static str {
        "beliefs-do-not-overlap"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact).filter(|it| it.guard_of_outsider() == Some(Guard::Break)) {
            self.broken.extend(applied.changes().filter_map(|change| Some(change.ended?.0)));
        }
        match fact {
            Fact::Believes { election, candidate, token, until } => {
                self.believers.insert((election.clone(), candidate.clone()), (*token, *until));
                self.tick(at)
            }
            Fact::Lost { election, candidate, .. } | Fact::Resigns { election, candidate, .. } => {
                self.believers.remove(&(election.clone(), candidate.clone()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn gone(&mut self, who: Who) {
        let who = who.to_string();
        self.believers.retain(|(_, candidate), _| candidate.rsplit_once('.').is_none_or(|(of, _)| of != who));
    }

    fn tick(&mut self, at: Duration) -> Result<(), String> {
        // In the order of elections: two believers of one election stand beside each other.
        let now: Vec<_> =
            self.believers.iter().filter(|(_, (token, until))| at < *until && !self.broken.contains(token)).collect();
        match now.windows(2).find(|pair| pair[0].0.0 == pair[1].0.0) {
            Some(both) => Err(format!("at {at:?} both believe that they lead: {both:?}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::{EndReason, Event, Op, Reply};

    use super::super::history::tests::{applied, fact};
    use super::*;

    #[test]
    fn it_can_object() {
        let believes = |election: &str, candidate: &str, token, until| Fact::Believes {
            election: election.into(),
            candidate: candidate.into(),
            token: Token::new(0, token),
            until: Duration::from_secs(until),
        };
        let mut beliefs = BeliefsDoNotOverlap::default();
        assert!(beliefs.on(&believes("e", "a", 1, 10), Duration::from_secs(1)).is_ok());
        assert!(beliefs.on(&believes("e", "b", 2, 20), Duration::from_secs(10)).is_ok(), "a's deadline has passed");
        assert!(beliefs.on(&believes("f", "a", 3, 20), Duration::from_secs(15)).is_ok(), "another election");
        assert!(beliefs.on(&believes("e", "a", 4, 20), Duration::from_secs(15)).is_err());
        let (election, token) = (String::from("e"), Token::new(0, 4));
        let op = Op::Resign { election: election.clone(), token, by: None, guard: Guard::Break };
        let vacant = Event::Vacant { election, previous: token, why: EndReason::Removed };
        let broken = applied(9, op, Ok(Reply::Resigned { already: false }), vec![vacant]);
        beliefs.on(&fact(broken), Duration::from_secs(16)).expect("it is told of a command");
        assert!(beliefs.tick(Duration::from_secs(16)).is_ok(), "one of the two was ended by force");
    }
}
