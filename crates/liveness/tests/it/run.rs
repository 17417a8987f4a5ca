//! Liveness under a clock that a test moves by hand, in milliseconds. Ticks come in time; rounds are answered as told.

use std::time::Duration;

use palisade_coord_core::{AttachGeneration, EndReason, OnDisconnect, SessionId};
use palisade_liveness::{Effect, Event, Fate, Known, Liveness, Round, StreamId, Ticket, Timings};

/// What the rounds of a run bring.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quorum {
    /// Each is confirmed as it begins.
    Confirms,
    /// Each is left without an answer.
    Silent,
}

pub(crate) struct Run {
    pub(crate) liveness: Liveness,
    pub(crate) now: Duration,
    pub(crate) quorum: Quorum,
    /// The last round that began.
    pub(crate) round: Option<Round>,
    /// All effects but the beginnings of rounds, since they were taken last.
    effects: Vec<Effect>,
}

pub(crate) const ELECTION_TIMEOUT_MS: u64 = 300;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn id(session: u64) -> SessionId {
    SessionId(session)
}

pub(crate) fn keep(session: u64, ttl_ms: u64) -> Known {
    Known {
        session: SessionId(session),
        attach: AttachGeneration(1),
        ttl: ms(ttl_ms),
        on_disconnect: OnDisconnect::KeepUntilTtl,
        wish: None,
    }
}

pub(crate) fn release(session: u64, ttl_ms: u64, after_ms: u64) -> Known {
    Known { on_disconnect: OnDisconnect::ReleaseAfter { ms: after_ms }, ..keep(session, ttl_ms) }
}

pub(crate) fn attached_as(known: Known, attach: u64) -> Known {
    Known { attach: AttachGeneration(attach), ..known }
}

impl Run {
    /// A store leader since the beginning of time, with these sessions in its state.
    pub(crate) fn leading(sessions: Vec<Known>) -> Run {
        let mut run = Run {
            liveness: Liveness::new(Timings::new(ms(ELECTION_TIMEOUT_MS))),
            now: Duration::ZERO,
            quorum: Quorum::Confirms,
            round: None,
            effects: Vec::new(),
        };
        run.tell(Event::BecameStoreLeader { sessions });
        assert_eq!(run.take(), [Effect::AcceptStreams]);
        run
    }

    /// One with a session that was just opened through stream 1.
    pub(crate) fn with(known: Known) -> Run {
        let mut run = Run::leading(vec![]);
        run.tell(Event::Opened { known, stream: StreamId(1) });
        run
    }

    /// Something happens now.
    pub(crate) fn tell(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in self.liveness.on(event, self.now) {
                match effect {
                    Effect::StartConfirmRound { round } => {
                        self.round = Some(round);
                        if self.quorum == Quorum::Confirms {
                            events.push(Event::QuorumConfirmed { round });
                        }
                    }
                    effect => self.effects.push(effect),
                }
            }
            self.liveness.check_invariants();
        }
    }

    /// Time passes up to this moment, with ticks in time.
    pub(crate) fn at(&mut self, at_ms: u64) -> &mut Run {
        while let Some(wake_at) = self.liveness.wake_at().filter(|wake_at| *wake_at <= ms(at_ms)) {
            self.now = self.now.max(wake_at);
            self.tell(Event::Tick);
        }
        self.now = ms(at_ms);
        self
    }

    /// The node stands still up to this moment.
    pub(crate) fn stand_still_until(&mut self, at_ms: u64) -> &mut Run {
        self.now = ms(at_ms);
        self
    }

    pub(crate) fn keep_alive(&mut self, stream: u64, call: u64, sessions: &[u64]) {
        let sessions = sessions.iter().copied().map(SessionId).collect();
        self.tell(Event::KeepAlive { stream: StreamId(stream), call, sessions });
    }

    pub(crate) fn decide(&mut self, session: u64, ticket: Ticket, fate: Fate) {
        self.tell(Event::EndDecided { session: SessionId(session), ticket, fate });
    }

    /// The effects since the last take.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The only effect since the last take is a proposal to end this session.
    #[track_caller]
    pub(crate) fn take_end(&mut self, of: u64, as_of: EndReason, at_attach: u64) -> Ticket {
        match self.take().as_slice() {
            [Effect::ProposeEnd { ticket, session, why, only_if }] => {
                assert_eq!((*session, *why), (SessionId(of), as_of));
                assert_eq!(*only_if, Some(AttachGeneration(at_attach)));
                *ticket
            }
            other => panic!("expected one end, got {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn nothing_until(&mut self, at_ms: u64) -> &mut Run {
        self.at(at_ms);
        assert_eq!(self.take(), [], "nothing was to happen until {at_ms} ms");
        self
    }
}

pub(crate) fn ack(stream: u64, call: u64, sessions: &[u64]) -> Effect {
    let sessions = sessions.iter().copied().map(SessionId).collect();
    Effect::AckKeepAlive { stream: StreamId(stream), call, sessions }
}
