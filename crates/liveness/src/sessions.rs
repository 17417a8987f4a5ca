//! The sessions of the state with their deadlines and streams. It knows no rounds and no proposals' answers.
//!
//! Keeps true: a session that may end by itself stands in `schedule`, at or before the moment when it is due. Renewals move
//! only the deadline on the session; its place in the schedule follows when its time comes, so that a renewal costs one
//! look-up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_coord_core::{AttachGeneration, EndReason, OnDisconnect, SessionId, Wish};
use palisade_planted::{self as planted, Bug};

use crate::timings::{after, keep_alive_interval, window};
use crate::{Known, StreamId, Ticket};

/// A session of the state.
#[derive(Debug)]
pub(crate) struct Session {
    /// The highest generation heard of.
    pub(crate) attach: AttachGeneration,
    pub(crate) ttl: Duration,
    pub(crate) on_disconnect: OnDisconnect,
    /// The stream that it is attached to, while that stream lives. It stands in `Sessions::by_stream` there.
    pub(crate) stream: Option<StreamId>,
    /// When the TTL has passed. `None` only in a reconnect window.
    pub(crate) expires: Option<Duration>,
    /// When a disconnect releases it; set only for sessions of that kind that are not attached. One of the two is set.
    pub(crate) releases: Option<Duration>,
    /// Set once somebody asked that it be renewed no more: `expires` is set, and never after this. It moves only when the node
    /// stood still, as all deadlines do, or while an end cannot be proposed.
    ends_by: Option<Duration>,
    /// Keep-alives of its present stream that wait for a round. While there are any, its TTL has not surely passed, unless it is
    /// renewed no more.
    pub(crate) unconfirmed: u32,
    /// Attaches on their way. While there are any, it does not end by itself.
    pub(crate) attaching: u32,
    /// Set while a proposal to end it is in flight, or is to be repeated.
    pub(crate) ending: Option<Ending>,
    /// Its place in the schedule: at or before the moment when it is due. `None`: it is blocked, or an end is in flight.
    scheduled: Option<Duration>,
}

/// A proposal to end a session.
#[derive(Debug)]
pub(crate) struct Ending {
    /// `None`: the last proposal's fate is unknown, and it is to be repeated at the scheduled time.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) why: EndReason,
    /// What the decision rested on.
    pub(crate) attach: AttachGeneration,
    /// Confirmed renewals that wait for the fate: stream, call, arrival.
    pub(crate) held: Vec<(StreamId, u64, Duration)>,
}

impl Session {
    /// When it ends by itself, and as what.
    fn due(&self) -> (Duration, EndReason) {
        match (self.expires, self.releases) {
            (Some(expires), Some(releases)) if expires <= releases => (expires, EndReason::Expired),
            (_, Some(releases)) => (releases, EndReason::Disconnected),
            (Some(expires), None) => (expires, EndReason::Expired),
            (None, None) => unreachable!("one of the two deadlines is always set"),
        }
    }

    /// Whether what is on its way may still save it.
    fn is_blocked(&self) -> bool {
        let disconnected = matches!(self.due(), (_, EndReason::Disconnected));
        self.attaching > 0 || (self.unconfirmed > 0 && !disconnected && self.is_renewed())
    }

    /// Whether keep-alives renew it.
    pub(crate) fn is_renewed(&self) -> bool {
        self.ends_by.is_none() || planted::is(Bug::RenewsWhenAskedNotTo)
    }

    /// Somebody asked that it be renewed no more. What it has, it keeps: its client was told so.
    fn stop_renewing(&mut self) {
        if self.ends_by.is_none() {
            self.ends_by = self.expires; // only sessions that keep until their TTL are asked: they have one
        }
    }

    /// A keep-alive that arrived at this moment was confirmed. A deadline never comes nearer.
    pub(crate) fn renew(&mut self, arrived: Duration) {
        debug_assert!(self.is_renewed(), "whoever renews has looked whether it is renewed");
        let expires = arrived + self.ttl;
        self.expires = Some(self.expires.map_or(expires, |before| before.max(expires)));
    }

    /// What is due is due again at `at` at the earliest.
    pub(crate) fn put_off(&mut self, at: Duration) {
        for deadline in [&mut self.expires, &mut self.releases, &mut self.ends_by].into_iter().flatten() {
            *deadline = at.max(*deadline);
        }
    }

    /// Whether it wants to be scheduled once nothing blocks it any more.
    pub(crate) fn is_unscheduled(&self) -> bool {
        self.scheduled.is_none()
    }

    /// Its deadlines under a store leader that has just learnt of it. Attaching renews nothing that its client may believe, so one
    /// that is renewed no more keeps what it has.
    fn anew(&mut self, now: Duration) {
        if !self.is_renewed() {
            return;
        }
        match window(self.on_disconnect) {
            Some(window) if self.stream.is_none() => (self.expires, self.releases) = (None, Some(now + window)),
            _ => (self.expires, self.releases) = (Some(now + self.ttl), None),
        }
    }
}

/// A session whose time has come.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) session: SessionId,
    pub(crate) why: EndReason,
    pub(crate) attach: AttachGeneration,
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: BTreeMap<SessionId, Session>,
    schedule: BTreeSet<(Duration, SessionId)>,
    /// The sessions attached to each stream; no set is empty.
    by_stream: BTreeMap<StreamId, BTreeSet<SessionId>>,
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.all.get_mut(&id)
    }

    /// The first moment at which something may be due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.schedule.first().map(|(at, _)| *at)
    }

    /// Learns of a session that is not attached here. One that is known already is left alone.
    pub(crate) fn found(&mut self, known: Known, now: Duration) {
        if self.all.contains_key(&known.session) {
            return;
        }
        let mut session = Session {
            attach: known.attach,
            ttl: known.ttl,
            on_disconnect: known.on_disconnect,
            stream: None,
            expires: None,
            releases: None,
            ends_by: None,
            unconfirmed: 0,
            attaching: 0,
            ending: None,
            scheduled: None,
        };
        session.anew(now);
        if known.wish == Some(Wish::StopRenewing) {
            session.stop_renewing();
        }
        self.all.insert(known.session, session);
        self.schedule(known.session);
    }

    /// A session is attached to a stream; an older attach than the one known changes nothing.
    pub(crate) fn attached(&mut self, known: Known, stream: StreamId, now: Duration) {
        self.found(known, now);
        let session = self.all.get_mut(&known.session).expect("it was found just now");
        if known.wish == Some(Wish::StopRenewing) {
            session.stop_renewing();
        }
        if known.attach < session.attach {
            return;
        }
        session.attach = known.attach;
        let before = session.stream.replace(stream);
        session.unconfirmed = 0;
        session.anew(now);
        self.leave_stream(known.session, before);
        self.by_stream.entry(stream).or_default().insert(known.session);
        self.schedule(known.session);
    }

    /// A session is renewed no more. Keep-alives that waited for a round save it no longer.
    pub(crate) fn stop_renewing(&mut self, id: SessionId) {
        if let Some(session) = self.all.get_mut(&id) {
            session.stop_renewing();
            self.schedule(id);
        }
    }

    /// The client's end of a stream is gone. A session that is attached to a newer stream does not care.
    pub(crate) fn stream_broke(&mut self, stream: StreamId, now: Duration) {
        self.disconnected(stream, now, after);
    }

    /// The node that relayed a stream is gone, which is not the client's fault: who is released by a disconnect has the time
    /// to find another way that it has after the death of a store leader. Deadlines stay as they are.
    pub(crate) fn relay_lost(&mut self, stream: StreamId, now: Duration) {
        let span = if planted::is(Bug::RelayDeathReleases) { after } else { window };
        self.disconnected(stream, now, span);
    }

    /// The sessions of a stream have none any more. `span`: how long each then has to attach again; `None`: its TTL alone
    /// counts.
    fn disconnected(&mut self, stream: StreamId, now: Duration, span: fn(OnDisconnect) -> Option<Duration>) {
        for id in self.by_stream.remove(&stream).unwrap_or_default() {
            let session = self.all.get_mut(&id).expect("sessions of a stream are known");
            session.stream = None;
            session.unconfirmed = 0;
            if let Some(span) = span(session.on_disconnect) {
                session.releases = Some(now + span);
            }
            self.schedule(id);
        }
    }

    /// All streams are closed by this node: nobody is released for that.
    pub(crate) fn detach_all(&mut self) {
        self.by_stream.clear();
        for session in self.all.values_mut() {
            session.stream = None;
            session.unconfirmed = 0;
            session.attaching = 0;
            if let Some(ending) = &mut session.ending {
                ending.held.clear();
            }
        }
        self.schedule_all();
    }

    /// Everybody has their time anew, as under a new store leader.
    pub(crate) fn all_anew(&mut self, now: Duration) {
        self.all.values_mut().for_each(|session| session.anew(now));
        self.schedule_all();
    }

    fn schedule_all(&mut self) {
        let ids: Vec<_> = self.all.keys().copied().collect();
        ids.into_iter().for_each(|id| self.schedule(id));
    }

    /// One session has its time anew, as under a new store leader.
    pub(crate) fn anew(&mut self, id: SessionId, now: Duration) {
        if let Some(session) = self.all.get_mut(&id) {
            session.anew(now);
            self.schedule(id);
        }
    }

    /// The node stood still for `late`: everybody has that much longer, and time for one more keep-alive.
    /// The schedule stays: it may be early.
    pub(crate) fn postpone_all(&mut self, late: Duration) {
        for session in self.all.values_mut() {
            let by = late + keep_alive_interval(session.ttl);
            for deadline in [&mut session.expires, &mut session.releases, &mut session.ends_by].into_iter().flatten() {
                *deadline += by;
            }
        }
    }

    pub(crate) fn ended(&mut self, id: SessionId) {
        let Some(session) = self.all.remove(&id) else { return };
        if let Some(at) = session.scheduled {
            self.schedule.remove(&(at, id));
        }
        self.leave_stream(id, session.stream);
    }

    fn leave_stream(&mut self, id: SessionId, stream: Option<StreamId>) {
        let Some(stream) = stream else { return };
        let sessions = self.by_stream.get_mut(&stream);
        let empty = sessions.is_some_and(|sessions| {
            sessions.remove(&id);
            sessions.is_empty()
        });
        if empty {
            self.by_stream.remove(&stream);
        }
    }

    /// Makes sure that a session which may end by itself is looked at in time. To be called whenever one of its deadlines
    /// came nearer or what blocked it is gone.
    pub(crate) fn schedule(&mut self, id: SessionId) {
        let Some(session) = self.all.get_mut(&id) else { return };
        if session.ending.is_some() {
            return;
        }
        let at = session.due().0;
        if session.scheduled.is_none_or(|scheduled| at < scheduled) {
            if let Some(before) = session.scheduled.replace(at) {
                self.schedule.remove(&(before, id));
            }
            self.schedule.insert((at, id));
        }
    }

    /// Looks at a session whose end's fate is unknown again at `at`.
    pub(crate) fn schedule_repeat(&mut self, id: SessionId, at: Duration) {
        if let Some(session) = self.all.get_mut(&id) {
            if let Some(before) = session.scheduled.replace(at) {
                self.schedule.remove(&(before, id));
            }
            self.schedule.insert((at, id));
        }
    }

    /// The next session whose time has come by `now`. It leaves the schedule; whoever takes it ends it or schedules it.
    pub(crate) fn take_due(&mut self, now: Duration) -> Option<Due> {
        loop {
            let (at, id) = *self.schedule.first().filter(|(at, _)| *at <= now)?;
            self.schedule.remove(&(at, id));
            let session = self.all.get_mut(&id).expect("what is scheduled is known");
            session.scheduled = None;
            if let Some(ending) = &session.ending {
                return Some(Due { session: id, why: ending.why, attach: ending.attach });
            }
            let (due, why) = session.due();
            if due > now {
                self.schedule(id); // it was renewed since
            } else if !session.is_blocked() {
                return Some(Due { session: id, why, attach: session.attach });
            } // what blocks it schedules it when it is gone
        }
    }

    pub(crate) fn check_invariants(&self) {
        for (id, session) in &self.all {
            if let Some(at) = session.scheduled {
                assert!(self.schedule.contains(&(at, *id)), "session {id} stands in the schedule where it says");
            }
            assert!(
                session.ending.is_some() || session.expires.is_some() || session.releases.is_some(),
                "session {id} has a deadline"
            );
            if let Some(ends_by) = session.ends_by {
                let expires = session.expires.expect("who is renewed no more has a TTL");
                assert!(expires <= ends_by, "session {id} is renewed though somebody asked that it be not");
            }
            match &session.ending {
                Some(ending) => assert_eq!(
                    ending.ticket.is_none(),
                    session.scheduled.is_some(),
                    "session {id} is scheduled while its end is in flight only to repeat it"
                ),
                None => match session.scheduled {
                    Some(at) => assert!(at <= session.due().0, "session {id} is looked at in time"),
                    None => assert!(session.is_blocked(), "session {id} is scheduled unless something may save it"),
                },
            }
            if let Some(stream) = session.stream {
                assert!(self.by_stream.get(&stream).is_some_and(|sessions| sessions.contains(id)), "{id} on {stream}");
            }
        }
        for (stream, sessions) in &self.by_stream {
            assert!(!sessions.is_empty(), "stream {stream} has a session");
            for id in sessions {
                assert_eq!(self.all.get(id).and_then(|session| session.stream), Some(*stream), "{id} on {stream}");
            }
        }
        let scheduled = self.all.values().filter(|session| session.scheduled.is_some()).count();
        assert_eq!(self.schedule.len(), scheduled, "the schedule has each session once");
    }
}
