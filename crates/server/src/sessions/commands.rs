//! What clients ask of the state machine: proposed in the order of their frames, and answered with what came of it.

use std::sync::Arc;
use std::time::Duration;

use palisade_coord_core::{Command, EndReason, OnDisconnect, Op, Outcome, Reply, Serial, SessionId};
use palisade_liveness as liveness;
use palisade_liveness::{Known, NotRenewed, StreamId};
use palisade_wire::convert;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, Header, ServerFrame, SessionEnded, server_frame};
use palisade_wire::status::{refuse, unknown};
use tokio::sync::oneshot;

use super::backend::SessionBackend;
use super::frames::{self, Request};
use super::leading::{Done, Leading};
use super::slots::Released;
use super::streams::StreamState;

/// The longest that a command may be without an outcome; then it is told to be unknown. Longer than any election; without it
/// a stuck proposal would hold back the events of its session for ever.
pub(super) const PROPOSAL_LIMIT: Duration = Duration::from_secs(5);

/// What a frame asked of the state machine.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    Open,
    Attach(SessionId),
    Campaign(SessionId),
    Withdraw(SessionId, Serial),
    Close(SessionId),
}

impl Asked {
    fn session(self) -> Option<SessionId> {
        match self {
            Asked::Open => None,
            Asked::Attach(session) | Asked::Campaign(session) | Asked::Withdraw(session, _) | Asked::Close(session) => {
                Some(session)
            }
        }
    }

    fn serial(self) -> Option<Serial> {
        match self {
            Asked::Withdraw(_, serial) => Some(serial),
            Asked::Open | Asked::Attach(_) | Asked::Campaign(_) | Asked::Close(_) => None,
        }
    }
}

/// A frame that was proposed.
#[derive(Debug)]
pub(super) struct Proposed {
    stream: StreamId,
    call: u64,
    asked: Asked,
    /// As asked for; of an `Open` only.
    opens: Option<(u64, OnDisconnect)>,
}

impl<B: SessionBackend> Leading<B> {
    pub(super) fn frame(&mut self, stream: StreamId, call: u64, request: Result<Request, ErrorDetail>) {
        if self.streams.state(stream) != StreamState::Open {
            return; // closed meanwhile
        }
        match self.streams.begin_call(stream, call).and(Ok(request)) {
            Ok(Ok(request)) => self.begun(stream, call, request),
            Ok(Err(error)) => self.streams.answer(stream, frames::refused(call, error)),
            Err(error) => self.streams.refuse(stream, call, error),
        }
    }

    /// Somebody asks about a session without a frame: as if its stream had, but for the answer.
    pub(super) fn call(&mut self, session: SessionId, request: Request, answer: oneshot::Sender<ServerFrame>) {
        let stream = self.slots.stream_of(session).filter(|it| self.streams.state(*it) == StreamState::Open);
        let Some(stream) = stream else {
            let lives = self.backend.read(|state| state.session(session).is_some());
            let why = if lives { NotRenewed::NotAttachedHere } else { NotRenewed::Ended };
            let _ = answer.send(frames::not_renewed(0, session, why)); // whoever asked may have gone
            return;
        };
        let renews = matches!(request, Request::KeepAlive(_)).then_some(session);
        if let Some(call) = self.streams.begin_asking(stream, renews, answer) {
            self.begun(stream, call, request);
        }
    }

    fn begun(&mut self, stream: StreamId, call: u64, request: Request) {
        match request {
            Request::KeepAlive(sessions) => {
                self.tell_liveness(liveness::Event::KeepAlive { stream, call, sessions });
            }
            Request::Open { ttl_ms, command } => {
                let Op::OpenSession { on_disconnect, .. } = command.op else { unreachable!("an open opens") };
                let opens = Some((ttl_ms, on_disconnect));
                self.propose(Proposed { stream, call, asked: Asked::Open, opens }, command);
            }
            Request::Attach { session, command } => {
                self.tell_liveness(liveness::Event::AttachReceived { session });
                self.propose(Proposed { stream, call, asked: Asked::Attach(session), opens: None }, command);
            }
            Request::Campaign { session, command } => {
                let proposed = Proposed { stream, call, asked: Asked::Campaign(session), opens: None };
                self.propose_if_attached(session, proposed, command);
            }
            Request::Withdraw { session, serial, command } => {
                let proposed = Proposed { stream, call, asked: Asked::Withdraw(session, serial), opens: None };
                self.propose_if_attached(session, proposed, command);
            }
            Request::Close { session, command } => {
                self.propose(Proposed { stream, call, asked: Asked::Close(session), opens: None }, command);
            }
        }
    }

    /// A session that has ended is left to the state machine, which says so.
    fn propose_if_attached(&mut self, session: SessionId, proposed: Proposed, command: Command) {
        let Proposed { stream, call, .. } = proposed;
        let lives = || self.backend.read(|state| state.session(session).is_some());
        if !self.slots.may_use(session, stream) && lives() {
            return self.streams.answer(stream, frames::refused(call, frames::not_attached_here(session)));
        }
        self.propose(proposed, command);
    }

    /// Commands of one session are first polled, and so take their place in the queue, in the order of their frames.
    fn propose(&mut self, proposed: Proposed, command: Command) {
        if let Some(session) = proposed.asked.session() {
            self.slots.begin(session);
        }
        let (backend, world) = (Arc::clone(&self.backend), self.world.clone());
        self.work.push(Box::pin(async move {
            let outcome = world.timeout(PROPOSAL_LIMIT, backend.submit(command)).await;
            Done::Command(proposed, outcome.unwrap_or_else(no_outcome))
        }));
    }

    pub(super) fn command_done(&mut self, proposed: &Proposed, result: Result<Outcome, ErrorDetail>) {
        let Proposed { stream, call, asked, opens } = *proposed;
        let session = asked.session();
        if let Some(session) = session {
            let seq = result.as_ref().ok().map(|outcome| outcome.seq);
            for (header, event) in self.slots.before(session, seq) {
                self.tell(session, header, &event);
            }
        }
        self.note_attachment(proposed, &result);
        let frame = match result {
            Ok(outcome) => {
                let header = self.header(&outcome);
                let ttl_ms = opens.map_or(0, |(ttl_ms, _)| ttl_ms);
                let asked = convert::Asked { session, serial: asked.serial(), ttl_ms };
                match convert::frame_body(header, asked, &outcome.reply) {
                    Some(body) => frames::answer(call, body),
                    None => frames::refused(call, unknown(Kind::Unspecified, "the state machine gave another answer")),
                }
            }
            Err(error) => frames::refused(call, error),
        };
        let state = self.streams.state(stream);
        self.streams.answer(stream, frame);
        match state {
            // The client went while this was on its way; what it attached is disconnected.
            StreamState::Broken => self.tell_liveness(liveness::Event::StreamBroke { stream }),
            StreamState::RelayLost => self.tell_liveness(liveness::Event::RelayLost { stream }),
            StreamState::Open | StreamState::Unknown => {}
        }
        if let Some(session) = session {
            let Released { events, untold } = self.slots.finish(session);
            for (header, event) in events {
                self.tell(session, header, &event);
            }
            if let Some(stream) = untold {
                self.close_untold(stream, session);
            }
        }
    }

    /// More happened to a session than could be kept for its client: it attaches again, and is told what came of it. That is
    /// this node's doing and releases nobody, as if a relay had died.
    fn close_untold(&mut self, stream: StreamId, session: SessionId) {
        tracing::warn!(%stream, %session, "more news of a session than can be held; its stream is closed, to be opened anew");
        let why = refuse(unknown(Kind::Overloaded, "more happened than could be told; attach again"));
        if self.streams.give_up(stream, why) == StreamState::Open {
            self.tell_liveness(liveness::Event::RelayLost { stream });
        }
    }

    /// What an open or an attach means for deadlines, and for where the session is told.
    fn note_attachment(&mut self, proposed: &Proposed, result: &Result<Outcome, ErrorDetail>) {
        let stream = proposed.stream;
        // Of the present state: what was asked after the attach may have been told already, of a session that was not known.
        let wish = |session| self.backend.read(|state| state.session(session).and_then(|it| it.wish));
        let known = match result.as_ref().map(|outcome| (&outcome.reply, outcome.seq)) {
            Ok((Ok(Reply::SessionOpened { session, attach }), seq)) => {
                let Some((ttl_ms, on_disconnect)) = proposed.opens else { return };
                let (session, ttl) = (*session, Duration::from_millis(ttl_ms));
                Some((Known { session, attach: *attach, ttl, on_disconnect, wish: wish(session) }, seq))
            }
            Ok((Ok(Reply::Attached { session, attach, ttl_ms, on_disconnect, .. }), seq)) => {
                let (session, ttl) = (*session, Duration::from_millis(*ttl_ms));
                let on_disconnect = *on_disconnect;
                Some((Known { session, attach: *attach, ttl, on_disconnect, wish: wish(session) }, seq))
            }
            _ => None,
        };
        let closed_by_us = self.streams.state(stream) == StreamState::Unknown;
        match (proposed.asked, known) {
            (Asked::Open, Some((known, seq))) if !closed_by_us => {
                // Nobody else knows its id, but an administrator may have ended it all the same.
                if self.backend.read(|state| state.session(known.session).is_some()) {
                    self.slots.attached(known.session, known.attach, stream, seq);
                    self.tell_liveness(liveness::Event::Opened { known, stream });
                } else {
                    self.streams.push(stream, frames::event(self.removed(known.session)));
                }
            }
            (Asked::Attach(session), Some((known, seq))) if !closed_by_us => {
                self.slots.attached(session, known.attach, stream, seq);
                self.tell_liveness(liveness::Event::Attached { known, stream });
            }
            (Asked::Attach(session), found) => {
                self.found(found.map(|(known, _)| known));
                self.tell_liveness(liveness::Event::NotAttached { session });
            }
            (Asked::Open, found) => self.found(found.map(|(known, _)| known)),
            (Asked::Campaign(_) | Asked::Withdraw(..) | Asked::Close(_), _) => {}
        }
    }

    fn found(&mut self, known: Option<Known>) {
        if let Some(known) = known {
            self.tell_liveness(liveness::Event::Found { sessions: vec![known] });
        }
    }

    fn removed(&self, session: SessionId) -> server_frame::Body {
        let header = self.backend.read(convert::header);
        let why = EndReason::Removed.to_string();
        server_frame::Body::Ended(SessionEnded { header: Some(header), session: session.get(), why })
    }

    fn header(&self, outcome: &Outcome) -> Header {
        convert::header_at(self.cluster, self.generation, outcome)
    }
}

pub(super) fn no_outcome() -> Result<Outcome, ErrorDetail> {
    Err(unknown(Kind::LostLeadership, format!("no outcome within {PROPOSAL_LIMIT:?}")))
}
