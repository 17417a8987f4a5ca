//! An ended session holds nothing: from the command on that ended it, it leads nowhere and is granted nothing. It ends without
//! its owner's will only under the attach generation that it had when somebody gave it up. And a session of which its owner was
//! told that it is closed has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_coord_core::{EndReason, Event, Op, Reply, SessionId};

use super::Invariant;
use super::history::History;
use crate::facts::{Applied, Fact, Restoration};

#[derive(Default)]
pub(super) struct EndedSessionsHoldNothing {
    history: History,
    /// The live ones, with their attach generations.
    live: BTreeMap<SessionId, u64>,
    /// By election: who leads.
    leads: BTreeMap<String, SessionId>,
}

impl EndedSessionsHoldNothing {
    fn apply(&mut self, applied: &Applied) -> Result<(), String> {
        let seq = applied.seq;
        match (&applied.command.op, &applied.outcome.reply) {
            (_, Ok(Reply::SessionOpened { session, attach })) => {
                self.live.insert(*session, attach.get());
            }
            (_, Ok(Reply::Attached { session, attach, .. })) => {
                let before = self.live.insert(*session, attach.get());
                before.ok_or_else(|| format!("at seq {seq} session {session} was attached after its end"))?;
            }
            (Op::EndSession { session, why, only_if }, Ok(Reply::SessionEnded)) => {
                let attach = self.live.get(session).copied();
                let seen = only_if.map(|seen| seen.get());
                if matches!(why, EndReason::Expired | EndReason::Disconnected) && (seen.is_none() || seen != attach) {
                    return Err(format!(
                        "at seq {seq} session {session} {why} under attach generation {seen:?}, and it was {attach:?}"
                    ));
                }
            }
            _ => {}
        }
        for event in &applied.outcome.events {
            if let Event::SessionEnded { session, .. } = event {
                self.live.remove(session);
            }
        }
        for change in applied.changes() {
            match change.began {
                Some(grant) => self.leads.insert(change.election.to_owned(), grant.session),
                None => self.leads.remove(change.election),
            };
        }
        match self.leads.iter().find(|(_, session)| !self.live.contains_key(session)) {
            Some((election, session)) => {
                Err(format!("at seq {seq} session {session} has ended and leads {election:?}"))
            }
            None => Ok(()),
        }
    }
}

impl Invariant for EndedSessionsHoldNothing {
    fn name(&self) -> &'static str {
        "ended-sessions-hold-nothing"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.live.clear();
        self.leads.clear();
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            return self.apply(applied);
        }
        match fact {
            Fact::SessionClosed { session } if self.live.contains_key(&SessionId(*session)) => {
                Err(format!("session {session} was said to be closed, and it lives"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{campaigned, elected, ended, fact, grant, opened};
    use super::*;

    /// Session 1 leads, session 2 lives.
    fn one_leads() -> EndedSessionsHoldNothing {
        let mut sessions = EndedSessionsHoldNothing::default();
        for applied in [opened(1, 1), opened(2, 2), campaigned(3, "e", 1, 1)] {
            sessions.on(&fact(applied), Duration::ZERO).unwrap();
        }
        sessions
    }

    fn then(applied: Applied) -> Result<(), String> {
        one_leads().on(&fact(applied), Duration::ZERO)
    }

    #[test]
    fn it_can_object() {
        let next = |session| elected(grant(4, "e", session, 2), Some((1, EndReason::Closed)));
        assert!(then(ended(4, 1, EndReason::Closed, None, Some(next(2)))).is_ok());
        assert!(then(ended(4, 1, EndReason::Closed, None, Some(next(9)))).is_err(), "granted to nobody");
        assert!(then(ended(4, 1, EndReason::Closed, None, None)).is_err(), "it still leads");
        assert!(then(campaigned(4, "other", 9, 2)).is_err(), "granted to nobody");
    }

    #[test]
    fn it_can_object_to_an_end_without_its_condition() {
        assert!(then(ended(4, 2, EndReason::Expired, Some(1), None)).is_ok());
        assert!(then(ended(4, 2, EndReason::Expired, Some(2), None)).is_err());
        assert!(then(ended(4, 2, EndReason::Expired, None, None)).is_err());
    }

    #[test]
    fn it_can_object_to_a_session_that_lives_on() {
        let closed = |session| one_leads().on(&Fact::SessionClosed { session }, Duration::ZERO);
        assert!(closed(2).is_err());
        assert!(closed(3).is_ok());
    }
}
