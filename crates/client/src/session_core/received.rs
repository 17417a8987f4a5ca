//! What frames of the store do to the sessions. Nothing is sent from here: [`super::settle`] sends.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_planted::{self as planted, Bug};
use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::{self, ErrorDetail, ServerFrame, server_frame::Body};

use super::candidacy::{Candidacy, Stage};
use super::entry::{Entry, Link};
use super::withdrawal::Withdrawal;
use super::{Effect, IsOpen, Key, Retry, Sent, SessionCore, StreamId};
use crate::{EndRequest, Error, ErrorKind, Grant, LeadershipState, LostWhy, SessionEnd, SessionWish};

/// Said where the store only says that a session is no more.
pub(super) const ENDED: &str = "the session ended";

/// What a refusal means for the frame that was refused.
pub(super) enum Verdict {
    /// This node cannot serve sessions: look for another.
    Elsewhere,
    /// Send it again later.
    Later,
    /// The session has ended.
    SessionEnded,
    /// It will never be granted.
    Never,
}

fn verdict(detail: &ErrorDetail) -> Verdict {
    match detail.kind() {
        Kind::NotStoreLeader | Kind::NoStoreLeader | Kind::LostLeadership => Verdict::Elsewhere,
        // A full disk is the node's trouble, and passes: the session lives on.
        Kind::Overloaded | Kind::DiskFull => Verdict::Later,
        // A lost race, or a kind that this program does not know: harmless to repeat, because opening leaves at most a
        // session to its TTL, and attaching, campaigning and closing take effect once.
        Kind::Unspecified => Verdict::Later,
        Kind::SessionEnded => Verdict::SessionEnded,
        Kind::InvalidArgument
        | Kind::ElectionNotFound
        | Kind::StaleToken
        | Kind::CandidateExists
        | Kind::HolderKeepsUntilTtl
        | Kind::Forgotten
        | Kind::Generation
        | Kind::WrongCluster
        | Kind::SerialReused
        | Kind::CandidateNotFound
        | Kind::Compacted
        | Kind::FutureRevision
        | Kind::KeyNotFound
        | Kind::SessionExists
        | Kind::Membership
        | Kind::Level => Verdict::Never,
    }
}

impl SessionCore {
    pub(super) fn received(&mut self, stream: StreamId, frame: ServerFrame, now: Duration, out: &mut Vec<Effect>) {
        self.heard(stream, now);
        match frame.body {
            Some(Body::Opened(opened)) => self.opened(stream, frame.call, &opened, now, out),
            Some(Body::Attached(attached)) => self.attached(stream, frame.call, attached, now, out),
            Some(Body::KeptAlive(kept)) => self.kept_alive(frame.call, &kept, now, out),
            Some(Body::Campaigned(campaigned)) => self.campaigned(frame.call, campaigned.grant, out),
            Some(Body::Granted(granted)) => {
                if let Some(grant) = granted.grant {
                    self.granted(grant, out);
                }
            }
            Some(Body::Revoked(revoked)) => self.revoked(&revoked, out),
            Some(Body::Closed(closed)) => self.ended(closed.session, "closed", out),
            Some(Body::Ended(ended)) => self.ended(ended.session, &ended.why, out),
            Some(Body::Refused(refused)) => {
                self.refused(stream, frame.call, &refused.error.unwrap_or_default(), now, out);
            }
            Some(Body::Withdrew(withdrew)) => self.withdrew(&withdrew),
            Some(Body::Withdrawn(withdrawn)) => self.withdrawn(&withdrawn, out),
            Some(Body::EndRequested(asked)) => {
                if let Some(entry) = self.sessions.get_mut(&asked.session) {
                    end_requested(entry, asked, out);
                }
            }
            Some(Body::SessionAsked(asked)) => {
                if let (Some(entry), Some(wish)) =
                    (self.sessions.get_mut(&asked.session), SessionWish::of(asked.wish()))
                {
                    entry.asked(asked.session, wish, out);
                }
            }
            None => tracing::debug!(call = frame.call, "a frame without a body"),
        }
    }

    /// Whatever comes shows that the stream in use lives.
    fn heard(&mut self, stream: StreamId, now: Duration) {
        let Some(current) = self.current.as_mut().filter(|current| current.id == stream) else { return };
        current.heard = now;
        if current.doubted {
            current.doubted = false;
            for entry in self.sessions.values_mut().filter(|entry| entry.is_attached_to(stream)) {
                entry.suspect_since = None;
            }
        }
    }

    pub(super) fn fruitful(&mut self) {
        self.fruitless = 0;
        self.doubts = 0;
    }

    fn opened(
        &mut self,
        stream: StreamId,
        call: u64,
        opened: &v1::SessionOpened,
        now: Duration,
        out: &mut Vec<Effect>,
    ) {
        self.fruitful();
        let asked = self.openings.iter().find(|(_, it)| it.sent.is_some_and(|sent| sent.call == call));
        let Some(open) = asked.map(|(open, _)| *open) else {
            // Nobody waits for it any more.
            self.closing.entry(opened.session).or_insert_with(|| super::Closing {
                sent: None,
                retry: Retry::default(),
                give_up_at: now + Duration::from_secs(10),
                names: Vec::new(),
            });
            return;
        };
        let opening = self.openings.remove(&open).expect("it was found");
        let sent = opening.sent.expect("it was found by its call");
        let entry = Entry::opened(opening.what.ttl, opening.what.on_disconnect, stream, sent.at);
        self.sessions.insert(opened.session, entry);
        let opened_at = opened.header.map_or(1, |header| header.seq.max(1));
        let first_serial = if opening.what.given.is_some() { opened_at } else { 1 };
        out.push(Effect::Opened { open, result: Ok(IsOpen { session: opened.session, first_serial }) });
    }

    fn attached(
        &mut self,
        stream: StreamId,
        call: u64,
        attached: v1::SessionAttached,
        now: Duration,
        out: &mut Vec<Effect>,
    ) {
        self.fruitful();
        let (session, wish) = (attached.session, SessionWish::of(attached.wish()));
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        // Only the newest attach counts: an older one may have been overtaken in the store too.
        if !matches!(entry.link, Link::Attaching { stream: at, sent } if (at, sent.call) == (stream, call)) {
            return;
        }
        entry.link = Link::Attached(stream);
        entry.suspect_since = None;
        entry.attach_retry = Retry::default();
        // Attaching renews nothing that this process may believe: a keep-alive does, so one goes out at once.
        entry.keep_alive_due = now;

        let held: BTreeMap<u64, Grant> = attached
            .held
            .into_iter()
            .filter_map(|grant| Grant::of(grant).ok())
            .map(|grant| (grant.serial, grant))
            .collect();
        entry.ending.retain(|token, _| held.values().any(|grant| grant.token == *token));
        let serials: Vec<u64> = entry.candidacies.keys().copied().filter(|serial| !held.contains_key(serial)).collect();
        for serial in serials {
            let stands = attached.waiting.iter().any(|waiting| waiting.serial == serial);
            without_grant(entry, Key { session, serial }, stands, out);
        }
        for grant in held.into_values() {
            take(entry, session, grant, out);
        }
        // What stands in the store and is nobody's here is withdrawn: it must not be granted one day.
        for waiting in attached.waiting {
            if !entry.candidacies.contains_key(&waiting.serial) {
                let withdrawal = || Withdrawal::of(waiting.election, waiting.candidate_id);
                entry.withdrawing.entry(waiting.serial).or_insert_with(withdrawal);
            }
        }
        for asked in attached.requested {
            end_requested(entry, asked, out);
        }
        if let Some(wish) = wish {
            entry.asked(session, wish, out);
        }
    }

    fn kept_alive(&mut self, call: u64, kept: &v1::KeptAlive, now: Duration, out: &mut Vec<Effect>) {
        self.fruitful();
        let Some(sent) = self.keep_alives.get_mut(&call) else { return };
        for session in &kept.not_renewed {
            sent.sessions.retain(|it| it != session);
            if let Some(entry) = self.sessions.get_mut(session) {
                entry.asked(*session, SessionWish::StopRenewing, out);
            }
        }
        for session in &kept.sessions {
            let Some(index) = sent.sessions.iter().position(|it| it == session) else { continue };
            sent.sessions.swap_remove(index);
            let Some(entry) = self.sessions.get_mut(session) else { continue };
            // An answer that was overtaken by a newer one does not move the deadline back.
            entry.renewed = entry.renewed.max(if planted::is(Bug::DeadlineFromReceiveTime) { now } else { sent.at });
            let last = entry.keep_alive_sent;
            entry.unacknowledged = (last > sent.at && entry.unacknowledged.is_some()).then_some(last);
            if !entry.is_renewed() {
                entry.unacknowledged = None;
            }
        }
        if sent.sessions.is_empty() {
            self.keep_alives.remove(&call);
        }
    }

    fn campaigned(&mut self, call: u64, grant: Option<v1::Grant>, out: &mut Vec<Effect>) {
        self.fruitful();
        let Some(key) = self.candidacy_sent_as(call) else {
            // Abandoned or taken over meanwhile: the grant is nobody's.
            if let Some(grant) = grant {
                self.granted(grant, out);
            }
            return;
        };
        out.push(Effect::Answered { key });
        let entry = self.sessions.get_mut(&key.session).expect("it was found by its call");
        let candidacy = entry.candidacies.get_mut(&key.serial).expect("it was found by its call");
        candidacy.stage = Stage::Waiting;
        if let Some(grant) = grant {
            self.granted(grant, out);
        }
    }

    fn granted(&mut self, grant: v1::Grant, out: &mut Vec<Effect>) {
        let session = grant.session;
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        match Grant::of(grant) {
            Ok(grant) => take(entry, session, grant, out),
            Err(error) => tracing::warn!(%error, "a grant that cannot be read; the next attach tells it again"),
        }
    }

    fn revoked(&mut self, revoked: &v1::Revoked, out: &mut Vec<Effect>) {
        let key = Key { session: revoked.session, serial: revoked.serial };
        let Some(entry) = self.sessions.get_mut(&key.session) else { return };
        entry.ending.retain(|token, _| token.get() != revoked.token);
        let Some(candidacy) = entry.candidacies.get(&key.serial) else { return };
        match &candidacy.stage {
            // The end of an earlier grant under the same serial cannot be: a serial is granted once.
            Stage::Leading { grant, .. } if grant.token.get() != revoked.token => return,
            Stage::Leading { .. } => {
                let why = LostWhy::Store(revoked.why.clone());
                out.push(Effect::State { key, state: LeadershipState::Lost { why } });
            }
            Stage::Unsent | Stage::Sent(_) | Stage::Waiting | Stage::Granted(_) => {
                out.push(Effect::Decided { key, result: Err(candidacy_ended(&revoked.why)) });
            }
        }
        entry.candidacies.remove(&key.serial);
    }

    /// Somebody took a candidate out of the line.
    fn withdrawn(&mut self, withdrawn: &v1::Withdrawn, out: &mut Vec<Effect>) {
        let key = Key { session: withdrawn.session, serial: withdrawn.serial };
        let Some(entry) = self.sessions.get_mut(&key.session) else { return };
        // Who was granted something does not wait: that is told in another way.
        let waits = |it: &mut Candidacy| matches!(it.stage, Stage::Unsent | Stage::Sent(_) | Stage::Waiting);
        if entry.candidacies.get_mut(&key.serial).is_some_and(waits) {
            entry.candidacies.remove(&key.serial);
            out.push(Effect::Decided { key, result: Err(candidacy_ended(&withdrawn.why)) });
        }
    }

    /// The store says that a session has ended.
    pub(super) fn ended(&mut self, session: u64, why: &str, out: &mut Vec<Effect>) {
        self.fruitful();
        if self.closing.remove(&session).is_some() {
            out.push(Effect::Closed { session, result: Ok(()) });
            return;
        }
        self.over(session, &SessionEnd::Store(why.to_owned()), &LostWhy::Store(why.to_owned()), out);
    }

    fn refused(&mut self, stream: StreamId, call: u64, detail: &ErrorDetail, now: Duration, out: &mut Vec<Effect>) {
        let verdict = verdict(detail);
        if matches!(verdict, Verdict::Elsewhere) {
            let in_use = self.current.as_ref().is_some_and(|current| current.id == stream);
            if in_use && self.is_awaited(call) {
                let hint = detail.store_leader.as_ref().map(|leader| leader.address.clone());
                self.broken(stream, hint, now);
                out.push(Effect::HangUp { stream });
            }
            return;
        }
        if self.keep_alives.contains_key(&call) {
            return self.keep_alive_refused(stream, call);
        }
        let is = |sent: Option<Sent>| sent.is_some_and(|sent| sent.call == call);
        if let Some((&open, opening)) = self.openings.iter_mut().find(|(_, it)| is(it.sent)) {
            opening.sent = None;
            if matches!(verdict, Verdict::Later) {
                return opening.retry.later(now);
            }
            let own = opening.answer_lost && detail.kind() == Kind::SessionExists;
            self.openings.remove(&open);
            let mut error = Error::refused(detail);
            if own {
                error.outcome = crate::Outcome::Unknown;
                error.hint = "an earlier try may have opened it; if so it ends by its TTL".to_owned();
            }
            out.push(Effect::Opened { open, result: Err(error) });
        } else if let Some((&session, closing)) = self.closing.iter_mut().find(|(_, it)| is(it.sent)) {
            closing.sent = None;
            match verdict {
                Verdict::SessionEnded => self.ended(session, ENDED, out),
                Verdict::Later | Verdict::Elsewhere => closing.retry.later(now),
                Verdict::Never => {
                    self.closing.remove(&session);
                    out.push(Effect::Closed { session, result: Err(Error::refused(detail)) });
                }
            }
        } else if let Some(key) = self.candidacy_sent_as(call) {
            self.campaign_refused(key, &verdict, detail, now, out);
        } else if let Some(key) = self.withdrawal_sent_as(call) {
            self.withdrawal_refused(key, &verdict, detail, now, out);
        } else if let Some(session) = self.session_attaching_as(call) {
            self.attach_refused(session, &verdict, detail, now, out);
        }
    }

    /// One of the sessions has ended, or is attached to another stream: attaching again those that were not renewed tells
    /// which. Later answers to the same frame still count.
    fn keep_alive_refused(&mut self, stream: StreamId, call: u64) {
        for session in &self.keep_alives[&call].sessions {
            if let Some(entry) = self.sessions.get_mut(session).filter(|entry| entry.is_attached_to(stream)) {
                entry.link = Link::Detached;
            }
        }
    }

    fn campaign_refused(
        &mut self,
        key: Key,
        verdict: &Verdict,
        detail: &ErrorDetail,
        now: Duration,
        out: &mut Vec<Effect>,
    ) {
        let entry = self.sessions.get_mut(&key.session).expect("it was found by its call");
        let candidacy = entry.candidacies.get_mut(&key.serial).expect("it was found by its call");
        match verdict {
            Verdict::Later | Verdict::Elsewhere => {
                candidacy.stage = Stage::Unsent;
                candidacy.retry.later(now);
            }
            Verdict::SessionEnded => self.ended(key.session, ENDED, out),
            // The store has the session on another stream: an older attach overtook the newer one.
            Verdict::Never if detail.kind() == Kind::InvalidArgument && detail.field == "session" => {
                candidacy.stage = Stage::Unsent;
                candidacy.retry.later(now);
                entry.link = Link::Detached;
            }
            Verdict::Never => {
                out.push(Effect::Answered { key });
                out.push(Effect::Decided { key, result: Err(Error::refused(detail)) });
                entry.candidacies.remove(&key.serial);
            }
        }
    }

    fn attach_refused(
        &mut self,
        session: u64,
        verdict: &Verdict,
        detail: &ErrorDetail,
        now: Duration,
        out: &mut Vec<Effect>,
    ) {
        match verdict {
            Verdict::SessionEnded => self.ended(session, ENDED, out),
            Verdict::Never if detail.outcome() == Outcome::NotApplied => {
                let why = Error::refused(detail).message;
                self.over(session, &SessionEnd::Store(why.clone()), &LostWhy::Store(why), out);
            }
            Verdict::Never | Verdict::Later | Verdict::Elsewhere => {
                let entry = self.sessions.get_mut(&session).expect("it was found by its call");
                entry.link = Link::Detached;
                entry.attach_retry.later(now);
            }
        }
    }

    /// Whether a frame under this call waits for its answer on the stream in use.
    fn is_awaited(&self, call: u64) -> bool {
        let is = |sent: Option<Sent>| sent.is_some_and(|sent| sent.call == call);
        self.keep_alives.contains_key(&call)
            || self.openings.values().any(|it| is(it.sent))
            || self.closing.values().any(|it| is(it.sent))
            || self.candidacy_sent_as(call).is_some()
            || self.withdrawal_sent_as(call).is_some()
            || self.session_attaching_as(call).is_some()
    }

    fn candidacy_sent_as(&self, call: u64) -> Option<Key> {
        self.sessions.iter().find_map(|(&session, entry)| {
            let mut sent = entry.candidacies.iter();
            let found = sent.find(|(_, it)| matches!(it.stage, Stage::Sent(sent) if sent.call == call));
            found.map(|(&serial, _)| Key { session, serial })
        })
    }

    fn session_attaching_as(&self, call: u64) -> Option<u64> {
        let attaching = |entry: &Entry| matches!(entry.link, Link::Attaching { sent, .. } if sent.call == call);
        self.sessions.iter().find(|(_, entry)| attaching(entry)).map(|(session, _)| *session)
    }
}

/// A candidacy of a session that was attached again, without a grant in the store.
fn without_grant(entry: &mut Entry, key: Key, stands: bool, out: &mut Vec<Effect>) {
    let candidacy = entry.candidacies.get_mut(&key.serial).expect("it is one of the entry's");
    match candidacy.stage {
        Stage::Leading { .. } => {
            let why = LostWhy::Store("it ended while the stream was broken".to_owned());
            out.push(Effect::State { key, state: LeadershipState::Lost { why } });
        }
        Stage::Unsent | Stage::Sent(_) | Stage::Waiting if stands => {
            if !matches!(candidacy.stage, Stage::Waiting) {
                out.push(Effect::Answered { key });
            }
            candidacy.stage = Stage::Waiting;
            return;
        }
        // It did not reach the store, or its answer did not reach us: it is sent again, under the same serial.
        Stage::Unsent | Stage::Sent(_) => return,
        Stage::Waiting | Stage::Granted(_) => {
            out.push(Effect::Decided { key, result: Err(candidacy_ended("while the stream was broken")) });
        }
    }
    entry.candidacies.remove(&key.serial);
}

/// The store granted something: to a candidacy that waits for it, or to nobody.
fn take(entry: &mut Entry, session: u64, grant: Grant, out: &mut Vec<Effect>) {
    let key = Key { session, serial: grant.serial };
    if entry.withdrawing.contains_key(&key.serial) {
        return; // the withdrawal ends it
    }
    let Some(candidacy) = entry.candidacies.get_mut(&key.serial) else { return entry.end_grant(session, &grant, out) };
    match &candidacy.stage {
        // Told again.
        Stage::Leading { grant: known, .. } | Stage::Granted(known) if known.token == grant.token => return,
        Stage::Unsent | Stage::Sent(_) => out.push(Effect::Answered { key }),
        Stage::Waiting | Stage::Leading { .. } | Stage::Granted(_) => {}
    }
    if entry.ending.contains_key(&grant.token) {
        // Its place was that of one whose grant is being resigned.
        entry.candidacies.remove(&key.serial);
        out.push(Effect::Decided { key, result: Err(candidacy_ended("resigned")) });
        return;
    }
    if let Stage::Leading { .. } = candidacy.stage {
        // A serial is granted once. Whatever this is, the leadership that the holder knows cannot be the present one.
        let why = LostWhy::Store(format!("replaced by token {}", grant.token));
        out.push(Effect::State { key, state: LeadershipState::Lost { why } });
        entry.candidacies.remove(&key.serial);
        return entry.end_grant(session, &grant, out);
    }
    candidacy.stage = Stage::Granted(grant);
}

fn end_requested(entry: &mut Entry, asked: v1::EndRequested, out: &mut Vec<Effect>) {
    let request = EndRequest { to: (!asked.to.is_empty()).then_some(asked.to) };
    entry.end_requested(Key { session: asked.session, serial: asked.serial }, asked.token, request, out);
}

fn candidacy_ended(why: &str) -> Error {
    Error::not_applied(ErrorKind::CandidacyEnded, format!("the candidacy ended: {why}")).with_hint("campaign again")
}
