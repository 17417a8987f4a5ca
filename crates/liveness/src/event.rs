//! What may happen to the sessions of a store leader. Events are facts: nothing here is checked or decided.

use std::fmt;
use std::time::Duration;

use palisade_coord_core::{AttachGeneration, OnDisconnect, SessionId, Wish};

/// One stream of one process, for the life of this node; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One quorum round. Rises for the life of a [`crate::Liveness`], over leaderships too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Round(pub(crate) u64);

/// One proposal to end a session. Rises for the life of a [`crate::Liveness`], over leaderships too, so that a late answer
/// is never taken for another proposal's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Ticket(pub(crate) u64);

/// What the replicated state says of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// Its id.
    pub session: SessionId,
    /// How often it was attached.
    pub attach: AttachGeneration,
    /// How long to wait for a keep-alive.
    pub ttl: Duration,
    /// What the break of its stream means.
    pub on_disconnect: OnDisconnect,
    /// What somebody else wants of it.
    pub wish: Option<Wish>,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// This node leads the store and has applied its own first entry; these sessions live.
    BecameStoreLeader {
        /// All sessions of the state.
        sessions: Vec<Known>,
    },
    /// This node leads no longer.
    LostStoreLeadership,
    /// The state has sessions that no event told of: whoever opened them had no answer.
    Found {
        /// Those, or more; what is known already is left alone.
        sessions: Vec<Known>,
    },
    /// A session was opened through a stream, and so attached to it.
    Opened {
        /// The session as it was opened.
        known: Known,
        /// Through which stream.
        stream: StreamId,
    },
    /// A client asked to attach a session; the command is on its way. Exactly one [`Event::Attached`] or
    /// [`Event::NotAttached`] follows.
    AttachReceived {
        /// Which session.
        session: SessionId,
    },
    /// The attach took effect.
    Attached {
        /// The session as the attach left it.
        known: Known,
        /// Through which stream.
        stream: StreamId,
    },
    /// The attach was refused, or its outcome is unknown.
    NotAttached {
        /// Which session.
        session: SessionId,
    },
    /// The client's end of a stream is gone, or the client broke the rules of the stream. Never sent for a stream that
    /// this node closed for its own reasons.
    StreamBroke {
        /// Which stream.
        stream: StreamId,
    },
    /// Another node relayed this stream, and is gone without a word about the client: nobody knows whether that still is
    /// there. Never sent when the relay said that the client's end is gone; that is [`Event::StreamBroke`].
    RelayLost {
        /// Which stream.
        stream: StreamId,
    },
    /// A keep-alive arrived.
    KeepAlive {
        /// Through which stream.
        stream: StreamId,
        /// The client's number for it.
        call: u64,
        /// What it renews.
        sessions: Vec<SessionId>,
    },
    /// A majority confirmed, in a round that began after [`crate::Effect::StartConfirmRound`] was returned, that this node
    /// still leads under the leadership that it had then.
    QuorumConfirmed {
        /// Which round.
        round: Round,
    },
    /// That round brought no confirmation.
    ConfirmFailed {
        /// Which round.
        round: Round,
    },
    /// Time passed. Due whenever [`crate::Liveness::wake_at`] says so.
    Tick,
    /// What became of a proposal to end a session.
    EndDecided {
        /// Which session.
        session: SessionId,
        /// Which proposal.
        ticket: Ticket,
        /// What became of it.
        fate: Fate,
    },
    /// A command that was applied asked something of a session. It may come before the event that tells of the session itself,
    /// which then says so, too.
    SessionAsked {
        /// Which session.
        session: SessionId,
        /// What is wanted of it.
        wish: Wish,
    },
    /// A command that was applied ended a session, whoever proposed it.
    SessionEnded {
        /// Which session.
        session: SessionId,
    },
}

/// What became of a proposal to end a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The session has ended, by this proposal or before it.
    Ended,
    /// The session was attached again since, and lives.
    AttachChanged {
        /// Its attach generation now.
        attach: AttachGeneration,
    },
    /// The proposal was not and will not be applied.
    NotApplied,
    /// It may have been applied, or may yet be.
    Unknown,
}
