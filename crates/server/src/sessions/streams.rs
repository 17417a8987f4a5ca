//! The streams of this node: where frames go, and which frames have no answer yet. It knows no session.
//!
//! Keeps true: a stream whose client is gone stays known until its last frame is answered, so that what comes of such a
//! frame is told apart from a stream that this node closed for its own reasons.

use std::collections::{BTreeMap, BTreeSet};

use palisade_coord_core::SessionId;
use palisade_liveness::{NotRenewed, StreamId};
use palisade_wire::convert;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, ServerFrame};
use palisade_wire::status::{refuse, unknown};
use tokio::sync::oneshot;
use tonic::Status;

use super::frames::{not_renewed, refused, too_many};
use super::outbox::{Full, Outbox};

/// Streams at once: one per client process, with room for the largest fleet that we plan for.
pub(crate) const MAX_STREAMS: usize = 20_000;

/// Frames of one stream without an answer. A process with 100,000 sessions renews them all by a hundred frames.
const MAX_CALLS: usize = 1_024;

/// Calls that are made on behalf of a stream, and not by a frame of it, are counted from here. Clients count from 1.
const FIRST_CALL: u64 = 1 << 63;

/// What is known of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StreamState {
    Open,
    /// The client is gone; answers to its frames come in still.
    Broken,
    /// The same, but the client may be there: its relay is gone, or this node gave the stream up.
    RelayLost,
    /// Closed by this node, or never known to it in this leadership.
    Unknown,
}

#[derive(Debug)]
struct Entry {
    end: End,
    /// Frames without an answer. Not empty if the client's end is gone.
    calls: BTreeSet<u64>,
    /// Calls that are answered to whoever made them instead of on the stream, until their first answer.
    asked: BTreeMap<u64, Asking>,
}

/// The client's end.
#[derive(Debug)]
enum End {
    There(Open),
    Gone,
    RelayLost,
}

/// Who waits for the answer to a call.
#[derive(Debug)]
struct Asking {
    /// The session that is to be renewed, if that was asked.
    renews: Option<SessionId>,
    answer: oneshot::Sender<ServerFrame>,
}

#[derive(Debug)]
struct Open {
    outbox: Outbox,
    /// Dropping it ends the reader.
    _stop: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
pub(super) struct Streams {
    all: BTreeMap<StreamId, Entry>,
    /// Calls that were made without a frame, so that each has a number of its own.
    last_asked: u64,
    /// Cut off for not reading, and not yet reported.
    cut_off: Vec<StreamId>,
}

impl Streams {
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn state(&self, stream: StreamId) -> StreamState {
        match self.all.get(&stream).map(|entry| &entry.end) {
            Some(End::There(_)) => StreamState::Open,
            Some(End::Gone) => StreamState::Broken,
            Some(End::RelayLost) => StreamState::RelayLost,
            None => StreamState::Unknown,
        }
    }

    pub(super) fn began(&mut self, stream: StreamId, outbox: Outbox, stop: oneshot::Sender<()>) {
        if self.all.len() >= MAX_STREAMS {
            return outbox.close(refuse(too_many("streams", MAX_STREAMS)));
        }
        let end = End::There(Open { outbox, _stop: stop });
        self.all.insert(stream, Entry { end, calls: BTreeSet::new(), asked: BTreeMap::new() });
    }

    /// A frame came. Says why it cannot be taken, if it cannot.
    pub(super) fn begin_call(&mut self, stream: StreamId, call: u64) -> Result<(), ErrorDetail> {
        let Some(entry) = self.all.get_mut(&stream) else { return Ok(()) };
        if entry.calls.len() >= MAX_CALLS {
            return Err(too_many("frames without an answer", MAX_CALLS));
        }
        if call == 0 || !entry.calls.insert(call) {
            return Err(convert::invalid("call", call, "from 1, and not the number of a frame without an answer"));
        }
        Ok(())
    }

    /// Somebody asks on behalf of an open stream, and gets the answer. Gives the number of the call, which has begun, or says
    /// why it cannot be taken.
    pub(super) fn begin_asking(
        &mut self,
        stream: StreamId,
        renews: Option<SessionId>,
        answer: oneshot::Sender<ServerFrame>,
    ) -> Option<u64> {
        self.last_asked += 1;
        let call = FIRST_CALL + self.last_asked;
        // What waits for the fate of an end has no call any more.
        let asked = self.all.get(&stream).map_or(0, |entry| entry.asked.len());
        let room = if asked < MAX_CALLS { Ok(()) } else { Err(too_many("calls without an answer", MAX_CALLS)) };
        match room.and_then(|()| self.begin_call(stream, call)) {
            Ok(()) => {
                self.all.get_mut(&stream)?.asked.insert(call, Asking { renews, answer });
                Some(call)
            }
            Err(error) => {
                let _ = answer.send(refused(call, error)); // whoever asked may have gone
                None
            }
        }
    }

    /// A session has ended: nobody need wait for its renewal.
    pub(super) fn session_ended(&mut self, stream: StreamId, session: SessionId) {
        let Some(entry) = self.all.get_mut(&stream) else { return };
        for (call, asking) in entry.asked.extract_if(.., |_, asking| asking.renews == Some(session)) {
            let _ = asking.answer.send(not_renewed(call, session, NotRenewed::Ended)); // it may have gone
        }
    }

    /// The answer to a frame.
    pub(super) fn answer(&mut self, stream: StreamId, frame: ServerFrame) {
        self.settle(stream, frame.call);
        self.push(stream, frame);
    }

    /// A frame that was not taken.
    pub(super) fn refuse(&mut self, stream: StreamId, call: u64, error: ErrorDetail) {
        self.push(stream, refused(call, error));
    }

    /// A frame has its answer, or will have none.
    pub(super) fn settle(&mut self, stream: StreamId, call: u64) {
        let Some(entry) = self.all.get_mut(&stream) else { return };
        entry.calls.remove(&call);
        if !matches!(entry.end, End::There(_)) && entry.calls.is_empty() {
            self.all.remove(&stream);
        }
    }

    /// An event, or a part of an answer.
    pub(super) fn push(&mut self, stream: StreamId, frame: ServerFrame) {
        let Some(entry) = self.all.get_mut(&stream) else { return };
        if let Some(asking) = entry.asked.remove(&frame.call) {
            let _ = asking.answer.send(frame); // whoever asked may have gone
            return;
        }
        let End::There(open) = &mut entry.end else { return };
        if open.outbox.push(frame) == Err(Full) {
            tracing::warn!(%stream, "a client does not read its session stream and is cut off");
            self.broke(stream, Some(refuse(unknown(Kind::Overloaded, "the client does not read its stream"))));
            self.cut_off.push(stream);
        }
    }

    /// A stream that was cut off for not reading: its client's fault, to be reported as broken.
    pub(super) fn take_cut_off(&mut self) -> Option<StreamId> {
        self.cut_off.pop()
    }

    /// The client's end is gone, or is to be. Says whether that is news.
    pub(super) fn broke(&mut self, stream: StreamId, status: Option<Status>) -> StreamState {
        self.ends(stream, End::Gone, status)
    }

    /// The relay of a stream is gone. Says what the stream was before.
    pub(super) fn relay_lost(&mut self, stream: StreamId) -> StreamState {
        self.ends(stream, End::RelayLost, None)
    }

    /// Closes a stream for a reason of this node, which is nobody's disconnect. Says what the stream was before.
    pub(super) fn give_up(&mut self, stream: StreamId, status: Status) -> StreamState {
        self.ends(stream, End::RelayLost, Some(status))
    }

    fn ends(&mut self, stream: StreamId, end: End, status: Option<Status>) -> StreamState {
        let before = self.state(stream);
        let Some(entry) = self.all.get_mut(&stream) else { return before };
        if let End::There(_) = entry.end
            && let (End::There(open), Some(status)) = (std::mem::replace(&mut entry.end, end), status)
        {
            open.outbox.close(status);
        }
        entry.asked.clear();
        if entry.calls.is_empty() {
            self.all.remove(&stream);
        }
        before
    }

    /// Closes all, for reasons of this node.
    pub(super) fn close_all(&mut self, status: &Status) {
        self.cut_off.clear();
        for entry in std::mem::take(&mut self.all).into_values() {
            if let End::There(open) = entry.end {
                open.outbox.close(status.clone());
            }
        }
    }
}
