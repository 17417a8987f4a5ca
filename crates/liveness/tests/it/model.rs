//! Random events against a plain model of the store: a few sessions, streams and commands in flight, with everything
//! delayed, reordered and lost that can be. The model knows what was truly applied and heard; liveness only what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_coord_core::{AttachGeneration, EndReason, OnDisconnect, SessionId, Wish};
use palisade_liveness::{
    CloseReason, Effect, Event, Fate, Known, Liveness, NotRenewed, RECONNECT_WINDOW, Round, StreamId, Ticket, Timings,
    keep_alive_interval,
};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use crate::run::{ELECTION_TIMEOUT_MS, ms};

/// Long enough for a few sessions to come and go.
const STEPS: usize = 200;

/// The same cases on every machine; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` change them.
pub(crate) fn config() -> ProptestConfig {
    let fresh = ProptestConfig::default();
    let seed = match fresh.rng_seed {
        RngSeed::Random => RngSeed::Fixed(20_250_102),
        fixed => fixed,
    };
    ProptestConfig { rng_seed: seed, failure_persistence: None, ..fresh }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Time passes, with ticks in time; a majority answers at each, or does not.
    Pass {
        ms: u64,
        confirmed: bool,
    },
    /// The node stands still.
    StandStill {
        ms: u64,
    },
    Open {
        stream: u64,
        ttl_ms: u64,
        on_disconnect: OnDisconnect,
    },
    /// An attach is received.
    Attach {
        pick: usize,
        stream: u64,
    },
    /// The oldest attach in flight is applied, or lost; and its outcome is told, or not.
    AttachApplied {
        applied: bool,
        answered: bool,
    },
    KeepAlive {
        pick: usize,
        stream: u64,
    },
    Break {
        stream: u64,
    },
    /// The node that relayed a stream dies.
    LoseRelay {
        stream: u64,
    },
    /// A round in flight is answered.
    Round {
        pick: usize,
        confirmed: bool,
    },
    /// An end in flight is applied, or lost; and its fate is told, or not.
    End {
        pick: usize,
        applied: bool,
        answered: bool,
    },
    /// An administrator ends a session.
    Remove {
        pick: usize,
    },
    /// An administrator asks that a session be renewed no more.
    StopRenewing {
        pick: usize,
    },
    Lose,
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..STEPS)
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        Just(OnDisconnect::KeepUntilTtl),
        prop_oneof![Just(0), Just(100), Just(5_000)].prop_map(|ms| OnDisconnect::ReleaseAfter { ms }),
    ];
    let stream = || 1u64..4;
    let likely = || prop::bool::weighted(0.8);
    prop_oneof![
        8 => (prop_oneof![1u64..30, 100u64..400], likely()).prop_map(|(ms, confirmed)| Step::Pass { ms, confirmed }),
        1 => (1u64..3_000).prop_map(|ms| Step::StandStill { ms }),
        3 => (stream(), prop_oneof![Just(200), Just(1_000)], kind)
            .prop_map(|(stream, ttl_ms, on_disconnect)| Step::Open { stream, ttl_ms, on_disconnect }),
        3 => (any::<usize>(), stream()).prop_map(|(pick, stream)| Step::Attach { pick, stream }),
        4 => (likely(), likely()).prop_map(|(applied, answered)| Step::AttachApplied { applied, answered }),
        8 => (any::<usize>(), stream()).prop_map(|(pick, stream)| Step::KeepAlive { pick, stream }),
        2 => stream().prop_map(|stream| Step::Break { stream }),
        2 => stream().prop_map(|stream| Step::LoseRelay { stream }),
        9 => (any::<usize>(), likely()).prop_map(|(pick, confirmed)| Step::Round { pick, confirmed }),
        4 => (any::<usize>(), likely(), likely())
            .prop_map(|(pick, applied, answered)| Step::End { pick, applied, answered }),
        1 => any::<usize>().prop_map(|pick| Step::Remove { pick }),
        1 => any::<usize>().prop_map(|pick| Step::StopRenewing { pick }),
        1 => Just(Step::Lose),
    ]
}

/// A session as the replicated state has it, with what its client was promised.
struct Truth {
    known: Known,
    /// The stream of the newest attach that was told of, while it lives.
    stream: Option<StreamId>,
    /// It must not be proposed to end before: a lower bound from what liveness was told.
    not_before: Duration,
    /// Attaches that were received and not answered.
    undecided: u32,
}

struct KeepAlive {
    session: SessionId,
    arrived: Duration,
    /// Rounds that had begun when it arrived.
    rounds_before: usize,
}

struct EndInFlight {
    ticket: Ticket,
    session: SessionId,
    only_if: Option<AttachGeneration>,
    /// The true generation when it was proposed.
    attach_then: AttachGeneration,
    applied: bool,
}

/// Why everybody has their time anew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Since {
    /// The store leader has just learnt of them.
    Found,
    /// It could renew nobody for a while. Whom it would not have renewed anyway gets nothing.
    QuorumLost,
}

struct Model {
    liveness: Liveness,
    now: Duration,
    last_tick: Duration,
    accepting: bool,
    sessions: BTreeMap<SessionId, Truth>,
    last_session: u64,
    attaches: Vec<(SessionId, StreamId)>,
    keep_alives: BTreeMap<u64, KeepAlive>,
    last_call: u64,
    /// All rounds of this leadership in the order in which they began, and the highest that was confirmed, as a count.
    rounds: Vec<Round>,
    rounds_confirmed: usize,
    rounds_in_flight: Vec<Round>,
    ends: Vec<EndInFlight>,
    /// Sessions that are kept from renewal by an end in flight.
    ending: BTreeSet<SessionId>,
}

pub(crate) fn follow(steps: &[Step]) {
    let mut model = Model {
        liveness: Liveness::new(Timings::new(ms(ELECTION_TIMEOUT_MS))),
        now: Duration::ZERO,
        last_tick: Duration::ZERO,
        accepting: false,
        sessions: BTreeMap::new(),
        last_session: 0,
        attaches: Vec::new(),
        keep_alives: BTreeMap::new(),
        last_call: 0,
        rounds: Vec::new(),
        rounds_confirmed: 0,
        rounds_in_flight: Vec::new(),
        ends: Vec::new(),
        ending: BTreeSet::new(),
    };
    model.become_store_leader();
    for step in steps {
        model.take(*step);
    }
    model.everybody_ends_at_last();
}

impl Model {
    fn take(&mut self, step: Step) {
        match step {
            Step::Pass { ms: span, confirmed } => self.pass(ms(span), confirmed),
            Step::StandStill { ms: span } => {
                self.now += ms(span);
                self.tell(Event::Tick);
            }
            Step::Open { stream, ttl_ms, on_disconnect } if self.accepting => self.open(stream, ttl_ms, on_disconnect),
            Step::Attach { pick, stream } if self.accepting => {
                let Some(session) = self.pick(pick) else { return };
                self.sessions.get_mut(&session).expect("it was picked").undecided += 1;
                self.attaches.push((session, StreamId(stream)));
                self.tell(Event::AttachReceived { session });
            }
            Step::AttachApplied { applied, answered } => self.attach_applied(applied, answered),
            Step::KeepAlive { pick, stream } if self.accepting => {
                let Some(session) = self.pick(pick) else { return };
                self.last_call += 1;
                let keep_alive = KeepAlive { session, arrived: self.now, rounds_before: self.rounds.len() };
                self.keep_alives.insert(self.last_call, keep_alive);
                let (stream, call) = (StreamId(stream), self.last_call);
                self.tell(Event::KeepAlive { stream, call, sessions: vec![session] });
            }
            Step::Break { stream } if self.accepting => self.break_stream(StreamId(stream)),
            Step::LoseRelay { stream } if self.accepting => self.lose_relay(StreamId(stream)),
            Step::Round { pick, confirmed } if !self.rounds_in_flight.is_empty() => {
                let round = self.rounds_in_flight.remove(pick % self.rounds_in_flight.len());
                self.answer_round(round, confirmed);
            }
            Step::End { pick, applied, answered } if !self.ends.is_empty() => {
                let end = pick % self.ends.len();
                self.end(end, applied, answered);
            }
            Step::Remove { pick } => {
                let Some(session) = self.pick(pick) else { return };
                self.sessions.remove(&session);
                self.tell(Event::SessionEnded { session });
            }
            Step::StopRenewing { pick } => {
                let Some(session) = self.pick(pick) else { return };
                let truth = self.sessions.get_mut(&session).expect("it was picked");
                if truth.known.on_disconnect == OnDisconnect::KeepUntilTtl {
                    truth.known.wish = Some(Wish::StopRenewing);
                    self.tell(Event::SessionAsked { session, wish: Wish::StopRenewing });
                }
            }
            Step::Lose => {
                self.tell(Event::LostStoreLeadership);
                assert!(!self.accepting, "the streams of a deposed store leader are closed");
                // It is elected again: what was in flight may be applied still, but nobody is told.
                self.become_store_leader();
            }
            Step::Open { .. }
            | Step::Attach { .. }
            | Step::KeepAlive { .. }
            | Step::Break { .. }
            | Step::LoseRelay { .. } => {} // closed
            Step::Round { .. } | Step::End { .. } => {} // none in flight
        }
    }

    fn pick(&self, pick: usize) -> Option<SessionId> {
        let count = self.sessions.len().max(1);
        self.sessions.keys().nth(pick % count).copied()
    }

    fn pass(&mut self, span: Duration, confirmed: bool) {
        let until = self.now + span;
        while let Some(wake_at) = self.liveness.wake_at().filter(|at| *at <= until) {
            self.now = self.now.max(wake_at);
            self.tell(Event::Tick);
            if confirmed && let Some(round) = self.rounds_in_flight.pop() {
                self.answer_round(round, confirmed);
            }
        }
        self.now = until;
    }

    fn become_store_leader(&mut self) {
        self.attaches.clear();
        self.keep_alives.clear();
        self.rounds.clear();
        self.rounds_in_flight.clear();
        self.rounds_confirmed = 0;
        self.ends.clear();
        self.ending.clear();
        self.last_tick = self.now;
        self.everybody_anew(Since::Found);
        let sessions = self.sessions.values().map(|truth| truth.known).collect();
        self.tell(Event::BecameStoreLeader { sessions });
        assert!(self.accepting);
    }

    fn everybody_anew(&mut self, since: Since) {
        for truth in self.sessions.values_mut() {
            (truth.stream, truth.undecided) = (None, 0);
            if since == Since::Found || truth.known.wish.is_none() {
                truth.not_before = self.now + time_anew(&truth.known);
            }
        }
    }

    fn open(&mut self, stream: u64, ttl_ms: u64, on_disconnect: OnDisconnect) {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        let known = Known { session, attach: AttachGeneration(1), ttl: ms(ttl_ms), on_disconnect, wish: None };
        let stream = StreamId(stream);
        let truth = Truth { known, stream: Some(stream), not_before: self.now + known.ttl, undecided: 0 };
        self.sessions.insert(session, truth);
        self.tell(Event::Opened { known, stream });
    }

    fn attach_applied(&mut self, applied: bool, answered: bool) {
        if self.attaches.is_empty() {
            return;
        }
        let (session, stream) = self.attaches.remove(0);
        // A moment that counts for the command, and a later one for its answer.
        let Some(truth) = self.sessions.get_mut(&session) else {
            return self.tell(Event::NotAttached { session });
        };
        truth.undecided = truth.undecided.saturating_sub(1);
        if applied {
            truth.known.attach = AttachGeneration(truth.known.attach.get() + 1);
        }
        if applied && answered {
            truth.stream = Some(stream);
            if truth.known.wish.is_none() {
                truth.not_before = self.now + truth.known.ttl;
            }
            let known = truth.known;
            self.tell(Event::Attached { known, stream });
        } else {
            self.tell(Event::NotAttached { session });
        }
    }

    fn break_stream(&mut self, stream: StreamId) {
        for truth in self.sessions.values_mut().filter(|truth| truth.stream == Some(stream)) {
            truth.stream = None;
            if let OnDisconnect::ReleaseAfter { ms: after } = truth.known.on_disconnect {
                truth.not_before = truth.not_before.min(self.now + ms(after));
            }
        }
        self.tell(Event::StreamBroke { stream });
    }

    /// Not the client's fault: it has the time that it has after the death of a store leader.
    fn lose_relay(&mut self, stream: StreamId) {
        for truth in self.sessions.values_mut().filter(|truth| truth.stream == Some(stream)) {
            truth.stream = None;
            if let OnDisconnect::ReleaseAfter { .. } = truth.known.on_disconnect {
                truth.not_before = truth.not_before.min(self.now + time_anew(&truth.known));
            }
        }
        self.tell(Event::RelayLost { stream });
    }

    fn answer_round(&mut self, round: Round, confirmed: bool) {
        if confirmed {
            let count = self.rounds.iter().position(|begun| *begun == round).expect("it was begun") + 1;
            self.rounds_confirmed = self.rounds_confirmed.max(count);
            self.tell(Event::QuorumConfirmed { round });
        } else {
            self.tell(Event::ConfirmFailed { round });
        }
    }

    /// An end is applied by the state machine, as the command says and no otherwise.
    fn end(&mut self, end: usize, applied: bool, answered: bool) {
        if !applied && answered {
            let EndInFlight { ticket, session, applied: before, .. } = self.ends.remove(end);
            // A second answer after an unknown one: nothing more is known.
            let fate = if before { Fate::Unknown } else { Fate::NotApplied };
            return self.decided(session, ticket, fate);
        }
        if applied && !self.ends[end].applied {
            self.ends[end].applied = true;
            let EndInFlight { session, only_if, attach_then, .. } = self.ends[end];
            let lives_as = self.sessions.get(&session).map(|truth| truth.known.attach);
            if lives_as.is_some_and(|attach| only_if.is_none_or(|only_if| only_if == attach)) {
                assert_eq!(
                    lives_as,
                    Some(attach_then),
                    "{session} was attached since its end was proposed, and yet ended"
                );
                self.sessions.remove(&session);
            }
        }
        let EndInFlight { ticket, session, .. } = self.ends.remove(end);
        let fate = match self.sessions.get(&session) {
            _ if !answered => Fate::Unknown,
            None => Fate::Ended,
            Some(truth) => Fate::AttachChanged { attach: truth.known.attach },
        };
        self.decided(session, ticket, fate);
        if fate == Fate::Unknown && !self.sessions.contains_key(&session) {
            self.ending.remove(&session);
            self.tell(Event::SessionEnded { session });
        }
    }

    fn decided(&mut self, session: SessionId, ticket: Ticket, fate: Fate) {
        if fate != Fate::Unknown {
            self.ending.remove(&session);
        }
        self.tell(Event::EndDecided { session, ticket, fate });
    }

    fn tell(&mut self, event: Event) {
        self.notice_standstill();
        if event == Event::Tick {
            self.last_tick = self.now;
        }
        let effects = self.liveness.on(event, self.now);
        self.liveness.check_invariants();
        for effect in effects {
            self.check(effect);
        }
    }

    /// As the contract says: late by d moves all deadlines by d and one keep-alive interval.
    fn notice_standstill(&mut self) {
        let timings = Timings::new(ms(ELECTION_TIMEOUT_MS));
        let late = self.now.saturating_sub(self.last_tick + timings.tick);
        if late > timings.late_after {
            for truth in self.sessions.values_mut() {
                truth.not_before += late + keep_alive_interval(truth.known.ttl);
            }
            self.last_tick = self.now;
        }
    }

    fn check(&mut self, effect: Effect) {
        match effect {
            Effect::AcceptStreams => {
                if !self.accepting {
                    self.everybody_anew(Since::QuorumLost);
                }
                self.accepting = true;
            }
            Effect::CloseStreams { why } => {
                assert!(self.accepting || why == CloseReason::LostStoreLeadership, "streams are closed once");
                self.accepting = false;
                self.keep_alives.clear();
                self.attaches.clear();
                if why == CloseReason::NoQuorum {
                    for truth in self.sessions.values_mut() {
                        (truth.stream, truth.undecided) = (None, 0);
                    }
                }
            }
            Effect::StartConfirmRound { round } => {
                assert!(self.rounds.iter().all(|begun| *begun < round), "rounds rise");
                self.rounds.push(round);
                self.rounds_in_flight.push(round);
            }
            Effect::AckKeepAlive { stream, call, sessions } => {
                for session in sessions {
                    self.check_ack(stream, call, session);
                }
            }
            Effect::RefuseKeepAlive { session, why: NotRenewed::EndAsked, .. } => {
                assert!(self.accepting, "nobody is answered on a closed stream");
                let asked = self.sessions.get(&session).is_some_and(|truth| truth.known.wish.is_some());
                assert!(asked, "nobody asked for the end of {session}");
            }
            Effect::RefuseKeepAlive {
                stream, session, why: NotRenewed::Ended | NotRenewed::NotAttachedHere, ..
            } => {
                assert!(self.accepting, "nobody is answered on a closed stream");
                let attached = self.sessions.get(&session).is_some_and(|truth| truth.stream == Some(stream));
                assert!(!attached, "{session} is attached to {stream} and lives");
            }
            Effect::ProposeEnd { ticket, session, why, only_if } => self.check_end(ticket, session, why, only_if),
        }
    }

    fn check_ack(&mut self, stream: StreamId, call: u64, session: SessionId) {
        assert!(self.accepting, "nobody is answered on a closed stream");
        let keep_alive = self.keep_alives.get(&call).expect("what is acknowledged was received");
        assert_eq!(keep_alive.session, session);
        assert!(
            self.rounds_confirmed > keep_alive.rounds_before,
            "keep-alive {call} is acknowledged without a round that began after it arrived"
        );
        assert!(!self.ending.contains(&session), "{session} is renewed while its end is in flight");
        let Some(truth) = self.sessions.get_mut(&session) else { panic!("{session} is renewed and does not live") };
        assert_eq!(truth.stream, Some(stream), "{session} is renewed through a stream that it is not attached to");
        assert_eq!(truth.known.wish, None, "{session} is renewed though somebody asked that it be not");
        // The client counts from when it sent, which is not later.
        truth.not_before = truth.not_before.max(keep_alive.arrived + truth.known.ttl);
    }

    fn check_end(&mut self, ticket: Ticket, session: SessionId, why: EndReason, only_if: Option<AttachGeneration>) {
        assert!(self.accepting, "nobody ends while no majority is heard of");
        assert!(matches!(why, EndReason::Expired | EndReason::Disconnected));
        let repeated = !self.ending.insert(session);
        let Some(truth) = self.sessions.get(&session) else {
            return; // it ended, and nobody told yet
        };
        let not_before = truth.not_before;
        assert!(repeated || self.now >= not_before, "{session} is to end at {:?}, before {not_before:?}", self.now);
        assert!(repeated || truth.undecided == 0, "{session} is to end while an attach is undecided");
        let released = matches!(truth.known.on_disconnect, OnDisconnect::ReleaseAfter { .. });
        assert!(why == EndReason::Expired || (released && truth.stream.is_none()) || repeated, "{session}: {why}");
        // The decision rests on what liveness has heard, which may be less than what is true.
        let attach_then = only_if.unwrap_or(truth.known.attach);
        assert!(attach_then <= truth.known.attach);
        self.ends.push(EndInFlight { ticket, session, only_if, attach_then, applied: false });
    }

    /// With answers to everything and no keep-alives, everybody's time comes.
    fn everybody_ends_at_last(&mut self) {
        for _ in 0..1_000 {
            while !self.attaches.is_empty() {
                self.attach_applied(true, true);
            }
            while !self.rounds_in_flight.is_empty() {
                let round = self.rounds_in_flight.remove(0);
                self.answer_round(round, true);
            }
            while !self.ends.is_empty() {
                self.end(0, true, true);
            }
            if self.sessions.is_empty() {
                assert_eq!(self.liveness.session_count(), 0, "nobody is remembered");
                return;
            }
            self.pass(ms(20), true);
        }
        panic!("these never end: {:?}", self.sessions.keys());
    }
}

fn time_anew(known: &Known) -> Duration {
    match known.on_disconnect {
        OnDisconnect::KeepUntilTtl => known.ttl,
        OnDisconnect::ReleaseAfter { ms: after } => ms(after).max(RECONNECT_WINDOW),
    }
}

#[test]
fn random_events_keep_to_the_model() {
    TestRunner::new(config())
        .run(&steps(), |steps| {
            follow(&steps);
            Ok(())
        })
        .unwrap();
}
