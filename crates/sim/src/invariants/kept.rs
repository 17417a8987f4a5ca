//! A belief is kept: while the holder of a *keep until the TTL* session may believe that it leads, the store neither expires nor
//! releases it, whether somebody else waits or not.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_coord_core::EndReason;
use palisade_fence::Token;

use super::Invariant;
use super::history::History;
use crate::facts::Fact;

#[derive(Default)]
pub(super) struct BeliefsAreKept {
    history: History,
    believed_until: BTreeMap<Token, Duration>,
}

impl Invariant for BeliefsAreKept {
    fn name(&self) -> &'static str {
        "beliefs-are-kept"
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            for change in applied.changes() {
                let Some((token, EndReason::Expired | EndReason::Disconnected)) = change.ended else { continue };
                if let Some(until) = self.believed_until.get(&token).filter(|until| at < **until) {
                    return Err(format!(
                        "{token} was ended at {at:?}, and its holder may believe in it until {until:?}"
                    ));
                }
            }
        }
        match fact {
            Fact::Believes { token, until, .. } => {
                self.believed_until.insert(*token, *until);
            }
            Fact::Lost { token, .. } | Fact::Resigns { token, .. } => {
                self.believed_until.remove(token);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::Event;

    use super::super::history::tests::{ended, fact};
    use super::*;

    #[test]
    fn it_can_object() {
        let token = Token::new(0, 1);
        let (election, candidate) = (String::from("e"), String::from("a"));
        let believes = Fact::Believes { election, candidate, token, until: Duration::from_secs(10) };
        let expired = EndReason::Expired;
        let vacant = Event::Vacant { election: "e".into(), previous: token, why: expired };
        let end = fact(ended(5, 1, expired, Some(1), Some(vacant)));
        let expires_at = |seconds| {
            let mut kept = BeliefsAreKept::default();
            kept.on(&believes, Duration::ZERO).unwrap();
            kept.on(&end, Duration::from_secs(seconds))
        };
        assert!(expires_at(9).is_err());
        assert!(expires_at(10).is_ok());
    }
}
