//! What is asked of a holder reaches it, whatever becomes of the store meanwhile, and nothing else does: it is told only what
//! somebody asked, of the leadership that was meant. When everything has come to rest, no request is left.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_coord_core::Event;
use palisade_fence::Token;

use super::Invariant;
use super::history::History;
use crate::facts::{Applied, Fact, Restoration};
use crate::phase::Phase;

#[derive(Default)]
pub(super) struct RequestsReachTheHolder {
    history: History,
    /// By the token that is to end: all that was ever asked of it, as who is to lead then.
    asked: BTreeMap<Token, Vec<Option<String>>>,
    /// Those that still lead, with their elections.
    open: BTreeMap<Token, String>,
    resting: bool,
}

impl RequestsReachTheHolder {
    fn apply(&mut self, applied: &Applied) {
        for change in applied.changes() {
            if let Some((token, _)) = change.ended {
                self.open.remove(&token);
            }
        }
        for event in &applied.outcome.events {
            if let Event::EndRequested { election, hand_over, .. } = event {
                self.asked.entry(hand_over.token).or_default().push(hand_over.to.clone());
                self.open.insert(hand_over.token, election.clone());
            }
        }
    }
}

impl Invariant for RequestsReachTheHolder {
    fn name(&self) -> &'static str {
        "requests-reach-the-holder"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.open.clear();
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            self.apply(applied);
        }
        match fact {
            Fact::EndAsked { candidate, token, to } => match self.asked.get(token) {
                Some(asked) if asked.contains(to) => Ok(()),
                asked => Err(format!("{candidate} was told to hand {token} over to {to:?}; asked was {asked:?}")),
            },
            _ => Ok(()),
        }
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        self.resting |= phase == Phase::Rest;
    }

    fn missing(&self) -> Option<String> {
        let (token, election) = self.open.first_key_value().filter(|_| self.resting)?;
        Some(format!("the holder of {election:?} was asked to end {token}, and leads"))
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::{EndReason, Guard, HandOver, Op, Reply, Serial, SessionId};

    use super::super::history::tests::{applied, ended, fact};
    use super::*;

    fn asked() -> RequestsReachTheHolder {
        let (session, token, election) = (SessionId(1), Token::new(0, 1), String::from("e"));
        let hand_over = HandOver { token, to: Some("b".into()) };
        let op = Op::Transfer { election: election.clone(), token: None, to: "b".into(), by: None, guard: Guard::Ask };
        let events = vec![Event::EndRequested { session, serial: Serial(1), election, hand_over }];
        let mut requests = RequestsReachTheHolder::default();
        let asked = applied(3, op, Ok(Reply::Requested { session }), events);
        requests.on(&fact(asked), Duration::ZERO).expect("nobody was told");
        requests
    }

    #[test]
    fn it_can_object() {
        let told = |counter, to: Option<&str>| {
            let (token, to) = (Token::new(0, counter), to.map(str::to_owned));
            asked().on(&Fact::EndAsked { candidate: "a".into(), token, to }, Duration::ZERO)
        };
        assert!(told(1, Some("b")).is_ok());
        assert!(told(1, None).is_err(), "somebody was named");
        assert!(told(2, Some("b")).is_err(), "another leadership");
    }

    #[test]
    fn none_is_left_at_rest() {
        let mut requests = asked();
        requests.phase(Phase::Rest, Duration::ZERO);
        assert!(requests.missing().is_some());
        let vacant = Event::Vacant { election: "e".into(), previous: Token::new(0, 1), why: EndReason::Expired };
        let end = fact(ended(4, 1, EndReason::Expired, Some(1), Some(vacant)));
        requests.on(&end, Duration::ZERO).expect("nobody was told");
        assert_eq!(requests.missing(), None, "it went with the leadership");
    }
}
