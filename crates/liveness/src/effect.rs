//! What is to be done. The order of effects is the order to do them in.

use palisade_coord_core::{AttachGeneration, EndReason, SessionId};

use crate::{Round, StreamId, Ticket};

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Streams may be opened from now on.
    AcceptStreams,
    /// Ask a majority whether this node still leads. The round must begin after this was returned: a round that is under
    /// way already proves nothing about the keep-alives that wait for this one.
    StartConfirmRound {
        /// Its number, for the answer.
        round: Round,
    },
    /// Tell a client that these sessions are renewed. Needs nothing more: a round that began after the keep-alive arrived
    /// has confirmed this node, and no end of these sessions is in flight.
    AckKeepAlive {
        /// Where.
        stream: StreamId,
        /// The client's number for the keep-alive.
        call: u64,
        /// A part or all of what the keep-alive named; empty if none of it was renewed. The first for a call says that
        /// the keep-alive waits no longer; one more follows for each session whose end was in flight, once it is known to
        /// live.
        sessions: Vec<SessionId>,
    },
    /// Tell a client that a session was not renewed. Needs nothing more, as above.
    RefuseKeepAlive {
        /// Where.
        stream: StreamId,
        /// The client's number for the keep-alive.
        call: u64,
        /// The session.
        session: SessionId,
        /// Why.
        why: NotRenewed,
    },
    /// Propose the end of a session: here, under the leadership that was told last, never forwarded. It may be repeated
    /// for the same session after an unknown fate.
    ProposeEnd {
        /// Names this proposal in its [`crate::Event::EndDecided`].
        ticket: Ticket,
        /// Which session.
        session: SessionId,
        /// Expired or disconnected.
        why: EndReason,
        /// The attach generation on which the decision rests. The command must carry it: a session that was attached
        /// since must not end.
        only_if: Option<AttachGeneration>,
    },
    /// Close all session streams and open none until [`Effect::AcceptStreams`]. It releases nobody: no
    /// [`crate::Event::StreamBroke`] follows.
    CloseStreams {
        /// What to tell the clients.
        why: CloseReason,
    },
}

/// Why a session was not renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotRenewed {
    /// It has ended, or never was.
    Ended,
    /// It lives, but is not attached to the stream that the keep-alive came through.
    NotAttachedHere,
    /// It lives, but somebody asked that it be renewed no more: it ends with its TTL.
    EndAsked,
}

/// Why this node closes its session streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// Another node leads the store, or none.
    LostStoreLeadership,
    /// No majority has confirmed this node for the election timeout: another may lead already.
    NoQuorum,
}
