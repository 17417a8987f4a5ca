//! Whose renewal was stopped ends: from that command on no keep-alive moves the holder's deadline, so that it believes in nothing
//! for longer than its TTL; and the session does end.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_coord_core::{Event, Op, Reply, SessionId, Wish};
use palisade_fence::Token;

use super::Invariant;
use super::history::History;
use crate::facts::{Applied, Fact, Restoration};
use crate::phase::Phase;

#[derive(Default)]
pub(super) struct WhoIsNotRenewedEnds {
    history: History,
    /// Of the live sessions.
    ttl: BTreeMap<SessionId, Duration>,
    holders: BTreeMap<Token, SessionId>,
    /// Live sessions that are renewed no more: how long anybody may believe in what they hold.
    stopped: BTreeMap<SessionId, Duration>,
    resting: bool,
}

impl WhoIsNotRenewedEnds {
    fn apply(&mut self, applied: &Applied, at: Duration) {
        if let (Op::OpenSession { ttl_ms, .. }, Ok(Reply::SessionOpened { session, .. })) =
            (&applied.command.op, &applied.outcome.reply)
        {
            self.ttl.insert(*session, Duration::from_millis(*ttl_ms));
        }
        for event in &applied.outcome.events {
            match event {
                Event::SessionAsked { session, wish: Wish::StopRenewing } => {
                    let ttl = self.ttl.get(session).copied().unwrap_or_default();
                    self.stopped.entry(*session).or_insert(at + ttl);
                }
                Event::SessionEnded { session, .. } => {
                    self.ttl.remove(session);
                    self.stopped.remove(session);
                }
                Event::Elected { grant, .. } => {
                    self.holders.insert(grant.token, grant.session);
                }
                _ => {}
            }
        }
    }
}

impl Invariant for WhoIsNotRenewedEnds {
    fn name(&self) -> &'static str {
        "who-is-not-renewed-ends"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.ttl.clear();
        self.stopped.clear();
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            self.apply(applied, at);
        }
        let Fact::Believes { candidate, token, until, .. } = fact else { return Ok(()) };
        let limit = self.holders.get(token).and_then(|session| self.stopped.get(session));
        match limit.filter(|limit| until > limit) {
            Some(limit) => Err(format!(
                "{candidate} is renewed no more since {limit:?} less its TTL, and believes until {until:?}"
            )),
            None => Ok(()),
        }
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        self.resting |= phase == Phase::Rest;
    }

    fn missing(&self) -> Option<String> {
        let (session, limit) = self.stopped.first_key_value().filter(|_| self.resting)?;
        Some(format!(
            "session {session} should have ended at {limit:?} or when a new store leader gave it its time anew"
        ))
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::Guard;

    use super::super::history::tests::{applied, campaigned, ended, fact, opened};
    use super::*;

    fn stopped() -> WhoIsNotRenewedEnds {
        let session = SessionId(1);
        let op = Op::CloseSession { session, guard: Guard::AskAndStopRenewing };
        let asked = Event::SessionAsked { session, wish: Wish::StopRenewing };
        let asked = applied(3, op, Ok(Reply::Requested { session }), vec![asked]);
        let mut stops = WhoIsNotRenewedEnds::default();
        for applied in [opened(1, 1), campaigned(2, "e", 1, 1), asked] {
            stops.on(&fact(applied), Duration::from_secs(5)).expect("nobody believes");
        }
        stops
    }

    #[test]
    fn it_can_object() {
        let believes = |until| Fact::Believes {
            election: "e".into(),
            candidate: "of-1".into(),
            token: Token::new(0, 1),
            until: Duration::from_millis(until),
        };
        assert!(stopped().on(&believes(6_000), Duration::from_secs(5)).is_ok(), "the TTL is a second");
        assert!(stopped().on(&believes(6_001), Duration::from_secs(5)).is_err(), "it was renewed");
    }

    #[test]
    fn it_must_end() {
        let mut stops = stopped();
        stops.phase(Phase::Rest, Duration::from_secs(9));
        assert!(stops.missing().is_some());
        let end = ended(4, 1, palisade_coord_core::EndReason::Expired, Some(1), None);
        stops.on(&fact(end), Duration::from_secs(9)).expect("nobody believes");
        assert_eq!(stops.missing(), None);
    }
}
