//! Belief intervals of *keep until the TTL* sessions do not overlap: while one candidate's deadline has not passed, no other
//! believes that it leads.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_fence::Token;

use super::Invariant;
use crate::facts::Fact;
use crate::plan::Who;

#[derive(Default)]
pub(super) struct BeliefsDoNotOverlap {
    /// By candidate: the token and the deadline.
    believers: BTreeMap<String, (Token, Duration)>,
}

impl Invariant for BeliefsDoNotOverlap {
    fn name(&self) -> &'static str {
        "beliefs-do-not-overlap"
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        match fact {
            Fact::Believes { candidate, token, until } => {
                self.believers.insert(candidate.clone(), (*token, *until));
                self.tick(at)
            }
            Fact::Lost { candidate, .. } | Fact::Resigns { candidate, .. } => {
                self.believers.remove(candidate);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn gone(&mut self, who: Who) {
        let who = who.to_string();
        self.believers.retain(|candidate, _| candidate.rsplit_once('.').is_none_or(|(of, _)| of != who));
    }

    fn tick(&mut self, at: Duration) -> Result<(), String> {
        let mut now = self.believers.iter().filter(|(_, (_, until))| at < *until);
        match (now.next(), now.next()) {
            (Some(one), Some(other)) => Err(format!("at {at:?} both believe that they lead: {one:?} and {other:?}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_object() {
        let believes = |candidate: &str, token, until| Fact::Believes {
            candidate: candidate.into(),
            token: Token::new(0, token),
            until: Duration::from_secs(until),
        };
        let mut beliefs = BeliefsDoNotOverlap::default();
        assert!(beliefs.on(&believes("a", 1, 10), Duration::from_secs(1)).is_ok());
        assert!(beliefs.on(&believes("b", 2, 20), Duration::from_secs(10)).is_ok(), "a's deadline has passed");
        assert!(beliefs.on(&believes("a", 3, 20), Duration::from_secs(15)).is_err());
    }
}
