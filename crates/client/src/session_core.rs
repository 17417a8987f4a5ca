//! What a client does about its sessions, as one function that cannot touch the world: [`SessionCore::on`] takes an event
//! and the time and returns effects, to be carried out in their order by the driver.
//!
//! It keeps true:
//! - a deadline comes from the *send* time of a keep-alive that was acknowledged (or of the frame that opened the session),
//!   never from the time of its answer, and is shortened by a margin for the drift of two clocks;
//! - a holder is told that it has lost before the store is told to end its grant or its session;
//! - what came after its limit came too late: limits are looked at before the event;
//! - a candidacy keeps its serial through every reconnect, so that it is one place in the line however often it is sent;
//! - a candidacy that nobody here wants any more is withdrawn by its serial, again and again until the store has said so; a
//!   grant that nobody wants is ended by its token, however and whenever it is told.
//!
//! It does no I/O, reads no clock, draws no randomness, and compares no clusters: the driver does.

mod candidacy;
mod entry;
mod received;
mod settle;
#[cfg(test)]
mod tests;
mod withdrawal;

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_fence::Token;
use palisade_planted::{self as planted, Bug};
use palisade_wire::coord::v1::{ClientFrame, LeaderValue, ServerFrame};

pub(crate) use self::candidacy::Candidacy;
use self::candidacy::Stage;
use self::entry::{Entry, Link};
use self::withdrawal::Withdrawal;
use crate::{EndRequest, Error, ErrorKind, Grant, LeadershipState, LostWhy, OnDisconnect, SessionEnd, SessionWish};

/// One stream to the store, for the life of the client; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct StreamId(pub(crate) u64);

/// One call of `open_session`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct OpenId(pub(crate) u64);

/// One candidacy: a session and a serial within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key {
    pub(crate) session: u64,
    pub(crate) serial: u64,
}

/// A session that somebody wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ToOpen {
    pub(crate) ttl: Duration,
    pub(crate) on_disconnect: OnDisconnect,
    /// An id that the caller gives; `None`: the store chooses.
    pub(crate) given: Option<u64>,
}

/// A session that was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IsOpen {
    pub(crate) session: u64,
    /// Its serials start here: an id that a caller gave may have been in use before.
    pub(crate) first_serial: u64,
}

/// Which way a stream goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// To the store leader itself.
    Direct,
    /// Through another node.
    Relayed,
}

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Search {
    /// Any stream: there is none that works.
    Anywhere,
    /// A better one: the stream in use is relayed.
    Directly,
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Event {
    /// Somebody wants a session, until `give_up_at`.
    Open { open: OpenId, what: ToOpen, give_up_at: Duration },
    /// Somebody enters an election.
    Campaign { key: Key, election: String, candidate: String, value: LeaderValue, priority: i32 },
    /// Whoever waited for this candidacy no longer does.
    Abandon { key: Key },
    /// The holder resigns, or dropped its handle.
    StepDown { key: Key },
    /// The store has said that this grant is over, after [`Effect::EndGrant`].
    GrantEnded { session: u64, token: Token },
    /// A session is to end.
    Close { session: u64 },
    /// A node accepted a stream.
    Connected { stream: StreamId, way: Way },
    /// A frame came.
    Received { stream: StreamId, frame: ServerFrame },
    /// A stream is gone; `hint` is where the store leader was said to be.
    Broken { stream: StreamId, hint: Option<String> },
    /// Time passed. Due whenever [`SessionCore::wake_at`] says so.
    Tick,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Effect {
    /// Look for a node that accepts a stream, everywhere at once; `hint` is where the store leader was said to be.
    Dial { hint: Option<String>, search: Search },
    /// Stop looking.
    StopDialing,
    /// Send on a stream. A stream that cannot send is a broken one.
    Send { stream: StreamId, frame: ClientFrame },
    /// Close a stream; nothing that comes from it counts any more.
    HangUp { stream: StreamId },
    /// The session is open, or it will not be.
    Opened { open: OpenId, result: Result<IsOpen, Error> },
    /// The store answered this candidacy's frame: its serial needs no memory any more.
    Answered { key: Key },
    /// The candidacy became a leadership, or never will.
    Decided { key: Key, result: Result<(Grant, LeadershipState), Error> },
    /// What the holder may believe.
    State { key: Key, state: LeadershipState },
    /// Somebody asks the holder to end this leadership.
    EndRequested { key: Key, request: EndRequest },
    /// Somebody asks for the end of a session.
    SessionAsked { session: u64, wish: SessionWish },
    /// Have the store end this grant, again and again until it says that it is over.
    EndGrant { session: u64, election: String, token: Token },
    /// The session is over for this process.
    Over { session: u64, why: SessionEnd },
    /// The store has said that the session has ended, or it was given up to its TTL.
    Closed { session: u64, result: Result<(), Error> },
}

/// An `open_session` that waits.
#[derive(Debug)]
struct Opening {
    what: ToOpen,
    give_up_at: Duration,
    /// When and under which call it was sent on the present stream.
    sent: Option<Sent>,
    /// Whether it was ever sent: then the store may have opened a session that nobody uses, which its TTL ends.
    ever_sent: bool,
    /// Whether a stream broke between it and its answer: then a session of the given id may be its own.
    answer_lost: bool,
    retry: Retry,
}

/// A session that is over here and must end in the store.
#[derive(Debug)]
struct Closing {
    sent: Option<Sent>,
    retry: Retry,
    give_up_at: Duration,
    /// What it may still hold: nobody of this client may enter there under the same name before it is gone.
    names: Vec<(String, String)>,
}

/// A frame that waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sent {
    call: u64,
    at: Duration,
}

/// When a refused frame may be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Retry {
    at: Duration,
    count: u32,
}

impl Retry {
    /// Refused frames are sent again after 10 ms, doubling up to 1 s: a full queue drains in milliseconds, a full table in seconds.
    fn later(&mut self, now: Duration) {
        self.at = now + Duration::from_millis(10 << self.count.min(7)).min(Duration::from_secs(1));
        self.count += 1;
    }
}

/// The stream in use.
#[derive(Debug)]
struct Current {
    id: StreamId,
    way: Way,
    /// When the last frame came from it.
    heard: Duration,
    /// It is silent; another is being looked for.
    doubted: bool,
}

/// Who becomes suspect when sessions leave a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suspect {
    /// Everybody: the stream broke, or was silent.
    All,
    /// Nobody who is not already.
    AsBefore,
}

/// A keep-alive that was sent.
#[derive(Debug)]
struct KeepAliveSent {
    stream: StreamId,
    at: Duration,
    sessions: Vec<u64>,
}

/// The state of all sessions of one client.
#[derive(Debug, Default)]
pub(crate) struct SessionCore {
    openings: BTreeMap<OpenId, Opening>,
    sessions: BTreeMap<u64, Entry>,
    closing: BTreeMap<u64, Closing>,
    current: Option<Current>,
    /// Streams that were replaced while they may still live: closed once the new one has attached every session, because
    /// closing a stream is a disconnect for whoever is still attached to it.
    retiring: Vec<Current>,
    dialing: Option<Search>,
    /// Not before this may a dial begin.
    dial_at: Duration,
    /// Where the store leader was said to be.
    hint: Option<String>,
    /// Streams in a row that brought no answer.
    fruitless: u32,
    /// Silences in a row: each is waited for twice as long, so that a slow store is not stormed.
    doubts: u32,
    next_call: u64,
    /// By call; at most [`settle::KEEP_ALIVES_IN_FLIGHT`].
    keep_alives: BTreeMap<u64, KeepAliveSent>,
}

impl SessionCore {
    /// The one entry.
    pub(crate) fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut out = Vec::new();
        self.enforce_limits(now, &mut out);
        match event {
            Event::Open { open, what, give_up_at } => {
                let retry = Retry::default();
                let opening = Opening { what, give_up_at, sent: None, ever_sent: false, answer_lost: false, retry };
                self.openings.insert(open, opening);
            }
            Event::Campaign { key, election, candidate, value, priority } => {
                self.campaign(key, Candidacy::new(election, candidate, value, priority), &mut out);
            }
            Event::Abandon { key } => self.abandon(key, &mut out),
            Event::StepDown { key } => self.step_down(key, &mut out),
            Event::GrantEnded { session, token } => {
                if let Some(entry) = self.sessions.get_mut(&session) {
                    entry.ending.remove(&token);
                }
            }
            Event::Close { session } => {
                self.end_here(session, &SessionEnd::Closed, &LostWhy::Closed, now, &mut out);
            }
            Event::Connected { stream, way } => self.connected(stream, way, now, &mut out),
            Event::Received { stream, frame } => self.received(stream, frame, now, &mut out),
            Event::Broken { stream, hint } => self.broken(stream, hint, now),
            Event::Tick => {}
        }
        self.settle(now, &mut out);
        #[cfg(debug_assertions)]
        self.check_invariants();
        out
    }

    /// Whether nothing is left to do: no session, none that ends.
    pub(crate) fn is_idle(&self) -> bool {
        self.openings.is_empty() && self.sessions.is_empty() && self.closing.is_empty()
    }

    /// A leadership at its limit is lost, and its session with it: closing it ends all that it may hold.
    fn enforce_limits(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let over: Vec<u64> =
            self.sessions.iter().filter(|(_, it)| it.leads() && now >= it.limit()).map(|(id, _)| *id).collect();
        for session in over {
            let entry = &self.sessions[&session];
            let why = if now >= entry.deadline() { LostWhy::Deadline } else { LostWhy::Disconnected };
            self.end_here(session, &SessionEnd::LeadershipLost, &why, now, out);
        }
    }

    fn campaign(&mut self, key: Key, candidacy: Candidacy, out: &mut Vec<Effect>) {
        let Some(entry) = self.sessions.get_mut(&key.session) else {
            let error =
                Error::not_applied(ErrorKind::SessionEnded, "the session has ended").with_hint("open another session");
            out.push(Effect::Decided { key, result: Err(error) });
            return;
        };
        let same = |it: &Candidacy| (&it.election, &it.candidate) == (&candidacy.election, &candidacy.candidate);
        if entry.candidacies.values().any(&same) {
            let message =
                format!("this session waits or leads already as '{}' in '{}'", candidacy.candidate, candidacy.election);
            let error = Error {
                field: "candidate_id".to_owned(),
                value: candidacy.candidate,
                ..Error::not_applied(ErrorKind::CandidateExists, message)
                    .with_hint("take another id, or another session")
            };
            out.push(Effect::Decided { key, result: Err(error) });
            return;
        }
        let before = entry.candidacies.insert(key.serial, candidacy);
        assert!(before.is_none(), "a serial names one candidacy");
    }

    fn abandon(&mut self, key: Key, out: &mut Vec<Effect>) {
        let Some(entry) = self.sessions.get_mut(&key.session) else { return };
        let Some(candidacy) = entry.candidacies.get(&key.serial) else { return };
        match candidacy.stage {
            Stage::Unsent if !candidacy.ever_sent => {
                entry.candidacies.remove(&key.serial);
            }
            // It may stand in the line, or be on its way to it.
            Stage::Unsent | Stage::Sent(_) | Stage::Waiting => {
                let Candidacy { election, candidate, .. } =
                    entry.candidacies.remove(&key.serial).expect("it was found");
                if !planted::is(Bug::AbandonedNotWithdrawn) {
                    entry.withdrawing.insert(key.serial, Withdrawal::of(election, candidate));
                }
            }
            Stage::Granted(_) | Stage::Leading { .. } => self.step_down(key, out),
        }
    }

    /// The holder stops believing first; only then is the store told.
    fn step_down(&mut self, key: Key, out: &mut Vec<Effect>) {
        let Some(entry) = self.sessions.get_mut(&key.session) else { return };
        let Some(candidacy) = entry.candidacies.remove(&key.serial) else { return };
        match candidacy.stage {
            Stage::Leading { grant, .. } => {
                if !planted::is(Bug::LostAfterResign) {
                    out.push(Effect::State { key, state: LeadershipState::Lost { why: LostWhy::Resigned } });
                }
                entry.end_grant(key.session, &grant, out);
            }
            Stage::Granted(grant) => entry.end_grant(key.session, &grant, out),
            Stage::Unsent | Stage::Sent(_) | Stage::Waiting => {
                unreachable!("only a leadership has a handle to step down with")
            }
        }
    }

    /// Ends a session here, and sees to it that it ends in the store.
    fn end_here(&mut self, session: u64, why: &SessionEnd, lost: &LostWhy, now: Duration, out: &mut Vec<Effect>) {
        let Some(entry) = self.sessions.get(&session) else {
            if !self.closing.contains_key(&session) {
                out.push(Effect::Closed { session, result: Ok(()) });
            }
            return;
        };
        let names = entry.candidacies.values().map(|it| (it.election.clone(), it.candidate.clone()));
        let closing = Closing {
            sent: None,
            retry: Retry::default(),
            // By then its TTL has ended it, also under a new store leader that gave it its TTL anew.
            give_up_at: now + (entry.ttl * 2).max(Duration::from_secs(10)),
            names: names.chain(entry.leaving().cloned()).collect(),
        };
        self.over(session, why, lost, out);
        self.closing.insert(session, closing);
    }

    /// The session is over: everybody who holds something of it is told.
    fn over(&mut self, session: u64, why: &SessionEnd, lost: &LostWhy, out: &mut Vec<Effect>) {
        let Some(entry) = self.sessions.remove(&session) else { return };
        // Leaderships first: nobody may act on one while the others are being told.
        let (leading, waiting): (Vec<_>, Vec<_>) =
            entry.candidacies.into_iter().partition(|(_, it)| matches!(it.stage, Stage::Leading { .. }));
        for (serial, _) in leading {
            out.push(Effect::State {
                key: Key { session, serial },
                state: LeadershipState::Lost { why: lost.clone() },
            });
        }
        for (serial, _) in waiting {
            let error = Error::not_applied(ErrorKind::SessionEnded, format!("the session has ended: {why}"));
            let result = Err(error.with_hint("open another session and campaign again"));
            out.push(Effect::Decided { key: Key { session, serial }, result });
        }
        out.push(Effect::Over { session, why: why.clone() });
    }

    /// A node accepted a stream: every session moves over to it.
    fn connected(&mut self, stream: StreamId, way: Way, now: Duration, out: &mut Vec<Effect>) {
        if self.dialing.is_none() {
            out.push(Effect::HangUp { stream });
            return;
        }
        self.dialing = None;
        self.hint = None;
        let old = self.current.replace(Current { id: stream, way, heard: now, doubted: false });
        // Leaving a stream that works for a better one gives nobody a reason to doubt.
        let suspect = if old.as_ref().is_some_and(|old| !old.doubted) { Suspect::AsBefore } else { Suspect::All };
        self.retiring.extend(old);
        self.detach_all(suspect, now);
    }

    fn broken(&mut self, stream: StreamId, hint: Option<String>, now: Duration) {
        self.keep_alives.retain(|_, sent| sent.stream != stream);
        self.retiring.retain(|it| it.id != stream);
        if self.current.as_ref().is_some_and(|current| current.id == stream) {
            // What was left for it may work still, and somebody may still be attached there: closing it would disconnect them.
            let works = self.retiring.iter().position(|it| !it.doubted);
            self.current = works.map(|at| self.retiring.remove(at));
            self.hint = hint;
            self.detach_all(Suspect::All, now);
            // A stream that brought nothing is not tried again at once: 10 ms, doubling up to 100 ms.
            if self.fruitless > 0 {
                let pause = Duration::from_millis(10 << (self.fruitless - 1).min(4));
                self.dial_at = now + pause.min(Duration::from_millis(100));
            }
            self.fruitless += 1;
        }
    }

    /// Nothing is attached any more, nothing that was sent will be answered here.
    fn detach_all(&mut self, suspect: Suspect, now: Duration) {
        for entry in self.sessions.values_mut() {
            entry.link = Link::Detached;
            entry.attach_retry = Retry::default();
            if suspect == Suspect::All {
                entry.suspect_since.get_or_insert(now);
            }
            entry.unacknowledged = None;
            for candidacy in entry.candidacies.values_mut() {
                if matches!(candidacy.stage, Stage::Sent(_)) {
                    candidacy.stage = Stage::Unsent;
                }
            }
            for withdrawal in entry.withdrawing.values_mut() {
                withdrawal.sent = None;
            }
        }
        for opening in self.openings.values_mut() {
            opening.answer_lost |= opening.sent.take().is_some();
        }
        for closing in self.closing.values_mut() {
            closing.sent = None;
        }
    }

    fn call(&mut self) -> u64 {
        self.next_call += 1;
        self.next_call
    }

    #[cfg(debug_assertions)]
    fn check_invariants(&self) {
        for (session, entry) in &self.sessions {
            assert!(!self.closing.contains_key(session), "a session lives or ends");
            let both = entry.withdrawing.keys().find(|serial| entry.candidacies.contains_key(serial));
            assert_eq!(both, None, "a serial names one candidacy, which is wanted or not");
            if let Link::Attached(stream) | Link::Attaching { stream, .. } = entry.link {
                let current = self.current.as_ref().map(|current| current.id);
                assert_eq!(current, Some(stream), "a session is attached to the stream in use");
            }
        }
        assert!(self.keep_alives.len() <= settle::KEEP_ALIVES_IN_FLIGHT);
    }
}
