//! A belief is kept: while the holder of a *keep until the TTL* session may believe that it leads, the store neither expires nor
//! releases it, whether somebody else waits or not; nor does it let anybody else end it who does not say that he breaks the
//! holder's guard.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_coord_core::{EndReason, Guard};
use palisade_fence::Token;

use super::Invariant;
use super::history::History;
use crate::facts::{Applied, Fact, Restoration};

#[derive(Default)]
pub(super) struct BeliefsAreKept {
    history: History,
    believed_until: BTreeMap<Token, Duration>,
}

impl Invariant for BeliefsAreKept {
    fn name(&self) -> &'static str {
        "beliefs-are-kept"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            for change in applied.changes() {
                let Some((token, why)) = change.ended else { continue };
                if !is_unasked(applied, why) {
                    continue;
                }
                if let Some(until) = self.believed_until.get(&token).filter(|until| at < **until) {
                    return Err(format!(
                        "{token} was ended at {at:?} ({why}), and its holder may believe in it until {until:?}"
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

/// Whether a leadership was ended without its holder's will, and without the words that break its guard.
fn is_unasked(applied: &Applied, why: EndReason) -> bool {
    match why {
        EndReason::Expired | EndReason::Disconnected => true,
        EndReason::Removed | EndReason::Transferred | EndReason::Closed | EndReason::Resigned => {
            applied.guard_of_outsider().is_some_and(|guard| guard != Guard::Break)
        }
        EndReason::Restored => false,
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::{Event, Op, Reply, SessionId};

    use super::super::history::tests::{applied, ended, fact};
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

    #[test]
    fn it_can_object_to_somebody_from_outside() {
        let token = Token::new(0, 1);
        let removed = |by: Option<u64>, guard| {
            let op = Op::Resign { election: "e".into(), token, by: by.map(SessionId), guard };
            let vacant = Event::Vacant { election: "e".into(), previous: token, why: EndReason::Removed };
            let mut kept = BeliefsAreKept::default();
            let (election, candidate) = (String::from("e"), String::from("a"));
            let until = Duration::from_secs(10);
            kept.on(&Fact::Believes { election, candidate, token, until }, Duration::ZERO).unwrap();
            let removed = applied(5, op, Ok(Reply::Resigned { already: false }), vec![vacant]);
            kept.on(&fact(removed), Duration::from_secs(9))
        };
        assert!(removed(None, Guard::Ask).is_err());
        assert!(removed(None, Guard::Break).is_ok(), "its guard was broken knowingly");
        assert!(removed(Some(1), Guard::Refuse).is_ok(), "it is a session's own");
    }
}
