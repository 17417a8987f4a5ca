//! One leadership of the store. What belongs to keep-alives and to ends stands in their own files; here are the hub, the
//! clock and the quorum.

use std::time::Duration;

use palisade_coord_core::{SessionId, Wish};
use palisade_planted::{self as planted, Bug};

use crate::rounds::Rounds;
use crate::sessions::Sessions;
use crate::{CloseReason, Effect, Event, Known, Round, Ticket, Timings};

/// The last of each that was given out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) round: Round,
    pub(crate) ticket: Ticket,
}

/// Whether a majority has been heard of within the election timeout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Quorum {
    Seen,
    /// The streams are closed, and nobody ends: another node may lead, and clients that live could not renew.
    Lost,
}

#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) timings: Timings,
    pub(crate) sessions: Sessions,
    pub(crate) rounds: Rounds,
    pub(crate) last_ticket: Ticket,
    quorum: Quorum,
    /// When the next tick is expected at the latest.
    tick_due: Duration,
}

impl Leading {
    pub(crate) fn new(timings: Timings, numbers: Numbers, sessions: Vec<Known>, now: Duration) -> Leading {
        let mut leading = Leading {
            timings,
            sessions: Sessions::default(),
            rounds: Rounds::new(numbers.round, now),
            last_ticket: numbers.ticket,
            quorum: Quorum::Seen,
            tick_due: now + timings.tick,
        };
        let since = if planted::is(Bug::DeadlinesOfBefore) { Duration::ZERO } else { now };
        leading.found(sessions, since);
        leading
    }

    pub(crate) fn numbers(&self) -> Numbers {
        Numbers { round: self.rounds.last(), ticket: self.last_ticket }
    }

    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn wake_at(&self) -> Duration {
        match (self.quorum, self.sessions.next_due()) {
            (Quorum::Seen, Some(due)) => due.min(self.tick_due),
            (Quorum::Seen, None) | (Quorum::Lost, _) => self.tick_due,
        }
    }

    pub(crate) fn on(&mut self, event: Event, now: Duration, effects: &mut Vec<Effect>) {
        self.notice_standstill(now);
        match event {
            Event::Found { sessions } => self.found(sessions, now),
            Event::Opened { known, stream } => self.sessions.attached(known, stream, now),
            Event::AttachReceived { session } => self.attach_received(session),
            Event::Attached { known, stream } => {
                self.sessions.attached(known, stream, now);
                self.attach_decided(known.session);
            }
            Event::NotAttached { session } => self.attach_decided(session),
            Event::StreamBroke { stream } => {
                self.sessions.stream_broke(stream, now);
                self.end_due(now, effects);
            }
            Event::RelayLost { stream } => self.sessions.relay_lost(stream, now),
            Event::KeepAlive { stream, call, sessions } => self.keep_alive(stream, call, sessions, now, effects),
            Event::QuorumConfirmed { round } => self.confirmed(round, now, effects),
            Event::ConfirmFailed { round } => self.rounds.failed(round),
            Event::Tick => self.tick(now, effects),
            Event::EndDecided { session, ticket, fate } => self.end_decided(session, ticket, fate, now, effects),
            Event::SessionAsked { session, wish: Wish::StopRenewing } => self.sessions.stop_renewing(session),
            Event::SessionAsked { wish: Wish::Close, .. } => {} // its client's business
            Event::SessionEnded { session } => self.sessions.ended(session),
            Event::BecameStoreLeader { .. } | Event::LostStoreLeadership => unreachable!("the hub keeps these"),
        }
    }

    /// A tick that comes late was late because the node stood still (paused, or starved): clients may have sent what has
    /// not been looked at. Any event shows it, and it must be noticed before that event is taken in.
    fn notice_standstill(&mut self, now: Duration) {
        let late = now.saturating_sub(self.tick_due);
        if late > self.timings.late_after {
            if !planted::is(Bug::LateTickNotMoved) {
                self.sessions.postpone_all(late);
            }
            self.rounds.stood_still(late);
            self.tick_due = now + self.timings.tick;
        }
    }

    fn tick(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.tick_due = now + self.timings.tick;
        if self.quorum == Quorum::Seen && self.rounds.unconfirmed_too_long(&self.timings, now) {
            self.quorum = Quorum::Lost;
            self.rounds.forget_waiting();
            self.sessions.detach_all();
            effects.push(Effect::CloseStreams { why: CloseReason::NoQuorum });
        }
        self.end_due(now, effects);
        self.begin_round_if_wanted(now, effects);
    }

    pub(crate) fn begin_round_if_wanted(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if let Some(round) = self.rounds.begin_if_wanted(&self.timings, now) {
            effects.push(Effect::StartConfirmRound { round });
        }
    }

    fn confirmed(&mut self, round: Round, now: Duration, effects: &mut Vec<Effect>) {
        let Some(covered) = self.rounds.confirmed(round, now) else { return };
        if self.quorum == Quorum::Lost {
            // It led all the time, as it turns out, but could renew nobody: as under a new store leader.
            self.quorum = Quorum::Seen;
            self.sessions.all_anew(now);
            if !planted::is(Bug::StaysShut) {
                effects.push(Effect::AcceptStreams);
            }
        }
        for keep_alive in covered {
            self.renew(keep_alive, effects);
        }
        self.begin_round_if_wanted(now, effects);
    }

    /// Whether ends may be proposed.
    pub(crate) fn may_end(&self) -> bool {
        self.quorum == Quorum::Seen
    }

    fn found(&mut self, sessions: Vec<Known>, now: Duration) {
        for known in sessions {
            self.sessions.found(known, now);
        }
    }

    fn attach_received(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.attaching += 1;
        }
    }

    fn attach_decided(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.attaching = session.attaching.saturating_sub(1);
            self.sessions.schedule(id);
        }
    }

    pub(crate) fn check_invariants(&self) {
        self.sessions.check_invariants();
        self.rounds.check_invariants();
    }
}
