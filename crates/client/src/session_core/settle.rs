//! After each event: whatever is due is sent, given up, or told. Keeps true: nothing is sent twice on one stream unless the
//! store refused it, and the same state always gives the same frames in the same order.

use std::time::Duration;

use palisade_wire::coord::v1::{self, ClientFrame, client_frame::Body};
use palisade_wire::limits::KEEP_ALIVE_SESSIONS;

use super::candidacy::Stage;
use super::entry::Link;
use super::withdrawal::Withdrawal;
use super::{Current, Effect, KeepAliveSent, Key, Search, Sent, SessionCore, StreamId, Way};
use crate::{Error, ErrorKind, LeadershipState, OnDisconnect};

/// Keep-alives without an answer. More than a TTL's worth; beyond it the oldest is forgotten, whose answer could no longer
/// move a deadline.
pub(super) const KEEP_ALIVES_IN_FLIGHT: usize = 64;

/// How long an answer to something other than a keep-alive or an attach may take before another node is tried.
const ANSWER: Duration = Duration::from_secs(2);

impl SessionCore {
    pub(super) fn settle(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.give_up(now, out);
        if let Some(stream) = self.current.as_ref().map(|current| current.id) {
            self.send_attaches(stream, now, out);
            self.send_closings(stream, now, out);
            self.send_opens(stream, now, out);
            self.send_keep_alives(stream, now, out);
            self.send_withdrawals(stream, now, out);
            self.send_campaigns(stream, now, out);
        }
        self.retire(out);
        self.doubt(now);
        self.tell(now, out);
        self.dial(now, out);
    }

    /// When [`super::Event::Tick`] is due; `None`: nothing depends on time. What is due at `now` has been done, or waits for
    /// something else than time.
    pub(crate) fn wake_at(&self, now: Duration) -> Option<Duration> {
        let attached = |link: Link| matches!(link, Link::Attached(_));
        let connected = self.current.is_some();
        let sessions = self.sessions.values().flat_map(|it| {
            let campaigns =
                it.candidacies.values().filter(|it| matches!(it.stage, Stage::Unsent)).map(|it| it.retry.at);
            let withdrawals = it.withdrawing.values().filter(|it| it.sent.is_none()).map(|it| it.retry.at);
            let retries = campaigns.chain(withdrawals).filter(|_| attached(it.link));
            [
                it.leads().then(|| it.limit()),
                (attached(it.link) && it.is_renewed()).then_some(it.keep_alive_due),
                (connected && matches!(it.link, Link::Detached)).then_some(it.attach_retry.at),
            ]
            .into_iter()
            .flatten()
            .chain(retries)
        });
        let openings = self.openings.values().flat_map(|it| {
            let retry = (connected && it.sent.is_none()).then_some(it.retry.at);
            [Some(it.give_up_at), retry].into_iter().flatten()
        });
        let closing = self.closing.values().flat_map(|it| {
            let retry = (connected && it.sent.is_none()).then_some(it.retry.at);
            [Some(it.give_up_at), retry].into_iter().flatten()
        });
        let dial = (self.wanted().is_some() && self.wanted() != self.dialing).then_some(self.dial_at);
        let doubt = if self.dialing == Some(Search::Anywhere) { None } else { self.doubt_at() };
        sessions.chain(openings).chain(closing).chain(dial).chain(doubt).filter(|at| *at > now).min()
    }

    fn wants_stream(&self) -> bool {
        !self.is_idle()
    }

    /// Opens whose time is up, and ends that the TTL has done by now.
    fn give_up(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let late: Vec<_> = self.openings.iter().filter(|(_, it)| it.give_up_at <= now).map(|(open, _)| *open).collect();
        for open in late {
            let opening = self.openings.remove(&open).expect("it was found");
            let error = if opening.ever_sent {
                Error::unknown(ErrorKind::TimedOut, "no answer to the opening of a session")
                    .with_hint("a session that was opened nevertheless ends by its TTL")
            } else {
                Error::not_applied(ErrorKind::NoStoreLeader, "no store leader could be reached")
                    .with_hint("are the nodes running, and do a majority of them reach each other?")
            };
            out.push(Effect::Opened { open, result: Err(error) });
        }
        let late: Vec<_> = self.closing.iter().filter(|(_, it)| it.give_up_at <= now).map(|(id, _)| *id).collect();
        for session in late {
            self.closing.remove(&session);
            let error = Error::unknown(ErrorKind::TimedOut, "no answer to the closing of a session");
            out.push(Effect::Closed { session, result: Err(error.with_hint("the session ends by its TTL")) });
        }
    }

    fn send_attaches(&mut self, stream: StreamId, now: Duration, out: &mut Vec<Effect>) {
        let due: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, it)| matches!(it.link, Link::Detached) && it.attach_retry.at <= now)
            .map(|(id, _)| *id)
            .collect();
        for session in due {
            let call = self.send(stream, Body::Attach(v1::AttachSession { session }), out);
            let entry = self.sessions.get_mut(&session).expect("it was found");
            entry.link = Link::Attaching { stream, sent: Sent { call, at: now } };
        }
    }

    fn send_closings(&mut self, stream: StreamId, now: Duration, out: &mut Vec<Effect>) {
        let due = self.closing.iter().filter(|(_, it)| it.sent.is_none() && it.retry.at <= now);
        for session in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            let call = self.send(stream, Body::Close(v1::CloseSession { session }), out);
            self.closing.get_mut(&session).expect("it was found").sent = Some(Sent { call, at: now });
        }
    }

    fn send_opens(&mut self, stream: StreamId, now: Duration, out: &mut Vec<Effect>) {
        let due = self.openings.iter().filter(|(_, it)| it.sent.is_none() && it.retry.at <= now);
        for open in due.map(|(open, _)| *open).collect::<Vec<_>>() {
            let opening = &self.openings[&open];
            let kind = match opening.what.on_disconnect {
                OnDisconnect::KeepUntilTtl => v1::on_disconnect::Kind::KeepUntilTtl(v1::on_disconnect::KeepUntilTtl {}),
                OnDisconnect::ReleaseAfter(after) => v1::on_disconnect::Kind::ReleaseAfterMs(ms(after)),
            };
            let frame = v1::OpenSession {
                ttl_ms: ms(opening.what.ttl),
                on_disconnect: Some(v1::OnDisconnect { kind: Some(kind) }),
                session_id: opening.what.given.unwrap_or_default(),
            };
            let call = self.send(stream, Body::Open(frame), out);
            let opening = self.openings.get_mut(&open).expect("it was found");
            opening.sent = Some(Sent { call, at: now });
            opening.ever_sent = true;
        }
    }

    /// One frame for all that are due, and for those that would be soon.
    fn send_keep_alives(&mut self, stream: StreamId, now: Duration, out: &mut Vec<Effect>) {
        let attached = || self.sessions.iter().filter(|(_, it)| it.is_attached_to(stream) && it.is_renewed());
        if !attached().any(|(_, it)| it.keep_alive_due <= now) {
            return;
        }
        let soon = attached().filter(|(_, it)| it.keep_alive_due <= now + it.interval() / 4);
        let due: Vec<u64> = soon.map(|(id, _)| *id).collect();
        for sessions in due.chunks(KEEP_ALIVE_SESSIONS) {
            let frame = v1::KeepAlive { sessions: sessions.to_vec() };
            let call = self.send(stream, Body::KeepAlive(frame), out);
            for session in sessions {
                let entry = self.sessions.get_mut(session).expect("it was found");
                entry.keep_alive_due = now + entry.interval();
                entry.keep_alive_sent = now;
                entry.unacknowledged.get_or_insert(now);
            }
            self.keep_alives.insert(call, KeepAliveSent { stream, at: now, sessions: sessions.to_vec() });
            if self.keep_alives.len() > KEEP_ALIVES_IN_FLIGHT {
                self.keep_alives.pop_first();
            }
        }
    }

    fn send_withdrawals(&mut self, stream: StreamId, now: Duration, out: &mut Vec<Effect>) {
        let due = self.sessions.iter().filter(|(_, it)| it.is_attached_to(stream)).flat_map(|(&session, entry)| {
            let due = entry.withdrawing.iter().filter(move |(_, it)| it.is_due(now));
            due.map(move |(&serial, _)| Key { session, serial })
        });
        for key in due.collect::<Vec<_>>() {
            let call = self.send(stream, Withdrawal::frame(key), out);
            let entry = self.sessions.get_mut(&key.session).expect("it was found");
            entry.withdrawing.get_mut(&key.serial).expect("it was found").sent = Some(Sent { call, at: now });
        }
    }

    fn send_campaigns(&mut self, stream: StreamId, now: Duration, out: &mut Vec<Effect>) {
        let due = self.sessions.iter().filter(|(_, it)| it.is_attached_to(stream)).flat_map(|(&session, entry)| {
            let due = entry.candidacies.iter().filter(move |(_, it)| it.is_due(now));
            due.map(move |(&serial, it)| (Key { session, serial }, it.election.clone(), it.candidate.clone()))
        });
        for (key, election, candidate) in due.collect::<Vec<_>>() {
            // What an earlier session, grant or candidacy of this process has under the same names must be gone first.
            let names = (election, candidate);
            let entry = &self.sessions[&key.session];
            let blocked = entry.leaving().any(|it| *it == names)
                || self.closing.values().any(|closing| closing.names.contains(&names));
            if blocked {
                continue;
            }
            let frame = entry.candidacies[&key.serial].frame(key);
            let call = self.send(stream, frame, out);
            let entry = self.sessions.get_mut(&key.session).expect("it was found");
            let candidacy = entry.candidacies.get_mut(&key.serial).expect("it was found");
            candidacy.stage = Stage::Sent(Sent { call, at: now });
            candidacy.ever_sent = true;
        }
    }

    fn send(&mut self, stream: StreamId, body: Body, out: &mut Vec<Effect>) -> u64 {
        let call = self.call();
        out.push(Effect::Send { stream, frame: ClientFrame { call, body: Some(body) } });
        call
    }

    /// A replaced stream is closed once no session can still be attached to it.
    fn retire(&mut self, out: &mut Vec<Effect>) {
        let moved = self.sessions.values().all(|it| matches!(it.link, Link::Attached(_)));
        if moved || self.current.is_none() {
            for Current { id: stream, .. } in self.retiring.drain(..) {
                self.keep_alives.retain(|_, sent| sent.stream != stream);
                out.push(Effect::HangUp { stream });
            }
        }
    }

    /// When the silence of the stream in use is long enough to look for another; `None`: nothing is awaited.
    fn doubt_at(&self) -> Option<Duration> {
        let current = self.current.as_ref()?;
        let awaited =
            |since: Duration, patience: Duration| Some(since.max(current.heard) + patience * (1 << self.doubts.min(6)));
        let sessions = self.sessions.values().flat_map(|it| {
            let attaching = match it.link {
                Link::Attaching { sent, .. } => awaited(sent.at, it.patience()),
                Link::Attached(_) => it.unacknowledged.and_then(|since| awaited(since, it.patience())),
                Link::Detached => None,
            };
            let campaigns = it.candidacies.values().filter_map(|it| match it.stage {
                Stage::Sent(sent) => Some(sent),
                Stage::Unsent | Stage::Waiting | Stage::Granted(_) | Stage::Leading { .. } => None,
            });
            let withdrawals = it.withdrawing.values().filter_map(|it| it.sent);
            attaching.into_iter().chain(campaigns.chain(withdrawals).filter_map(|sent| awaited(sent.at, ANSWER)))
        });
        let openings = self.openings.values().filter_map(|it| it.sent);
        let closing = self.closing.values().filter_map(|it| it.sent);
        sessions.chain(openings.chain(closing).filter_map(|sent| awaited(sent.at, ANSWER))).min()
    }

    /// The stream in use is silent: look for another, and keep this one until there is one.
    fn doubt(&mut self, now: Duration) {
        if self.dialing == Some(Search::Anywhere) || self.doubt_at().is_none_or(|at| now < at) {
            return;
        }
        self.doubts += 1;
        let current = self.current.as_mut().expect("only a stream in use is doubted");
        current.doubted = true;
        let stream = current.id;
        for entry in self.sessions.values_mut().filter(|entry| entry.is_attached_to(stream)) {
            entry.suspect_since.get_or_insert(now);
        }
    }

    /// Hands grants over, and tells holders what they may believe, if it is another than before.
    fn tell(&mut self, now: Duration, out: &mut Vec<Effect>) {
        for (&session, entry) in &mut self.sessions {
            let state = entry.state();
            let believable = entry.deadline() > now && matches!(entry.link, Link::Attached(_));
            for (&serial, candidacy) in &mut entry.candidacies {
                let key = Key { session, serial };
                match &mut candidacy.stage {
                    Stage::Leading { told, .. } if *told != state => {
                        told.clone_from(&state);
                        out.push(Effect::State { key, state: state.clone() });
                    }
                    Stage::Granted(grant) if believable => {
                        let grant = grant.clone();
                        out.push(Effect::Decided { key, result: Ok((grant.clone(), state.clone())) });
                        candidacy.stage = Stage::Leading { grant, told: state.clone() };
                        if let Some(request) = candidacy.requested.clone() {
                            out.push(Effect::EndRequested { key, request });
                        }
                    }
                    Stage::Unsent | Stage::Sent(_) | Stage::Waiting | Stage::Granted(_) | Stage::Leading { .. } => {}
                }
            }
            debug_assert!(!matches!(state, LeadershipState::Lost { .. }), "a live session's holders have not lost");
        }
    }

    /// What is to be looked for.
    fn wanted(&self) -> Option<Search> {
        match &self.current {
            _ if !self.wants_stream() => None,
            None => Some(Search::Anywhere),
            Some(current) if current.doubted => Some(Search::Anywhere),
            Some(current) => (current.way == Way::Relayed).then_some(Search::Directly),
        }
    }

    fn dial(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let wanted = self.wanted();
        if wanted == self.dialing {
            return;
        }
        let doubted = self.current.as_ref().is_some_and(|current| current.doubted);
        if wanted.is_some() && !doubted && now < self.dial_at {
            return; // what is looked for meanwhile would do as well
        }
        if self.dialing.is_some() {
            out.push(Effect::StopDialing);
        }
        self.dialing = wanted;
        if let Some(search) = wanted {
            out.push(Effect::Dial { hint: self.hint.take(), search });
        }
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
