//! The streams of this node: where frames go, and which frames have no answer yet. It knows no session.
//!
//! Keeps true: a stream whose client is gone stays known until its last frame is answered, so that what comes of such a
//! frame is told apart from a stream that this node closed for its own reasons.

use std::collections::{BTreeMap, BTreeSet};

use palisade_liveness::StreamId;
use palisade_wire::convert;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, ServerFrame};
use palisade_wire::status::{refuse, unknown};
use tokio::sync::oneshot;
use tonic::Status;

use super::frames::{refused, too_many};
use super::outbox::{Full, Outbox};

/// Streams at once: one per client process, with room for the largest fleet that we plan for.
const MAX_STREAMS: usize = 20_000;

/// Frames of one stream without an answer. A process with 100,000 sessions renews them all by a hundred frames.
const MAX_CALLS: usize = 1_024;

/// What is known of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StreamState {
    Open,
    /// The client is gone; answers to its frames come in still.
    Broken,
    /// Closed by this node, or never known to it in this leadership.
    Unknown,
}

#[derive(Debug)]
struct Entry {
    /// `None`: the client is gone.
    open: Option<Open>,
    /// Frames without an answer. Not empty if the client is gone.
    calls: BTreeSet<u64>,
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
    /// Cut off for not reading, and not yet reported.
    cut_off: Vec<StreamId>,
}

impl Streams {
    pub(super) fn state(&self, stream: StreamId) -> StreamState {
        match self.all.get(&stream) {
            Some(entry) if entry.open.is_some() => StreamState::Open,
            Some(_) => StreamState::Broken,
            None => StreamState::Unknown,
        }
    }

    pub(super) fn began(&mut self, stream: StreamId, outbox: Outbox, stop: oneshot::Sender<()>) {
        if self.all.len() >= MAX_STREAMS {
            return outbox.close(refuse(too_many("streams", MAX_STREAMS)));
        }
        self.all.insert(stream, Entry { open: Some(Open { outbox, _stop: stop }), calls: BTreeSet::new() });
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
        if entry.open.is_none() && entry.calls.is_empty() {
            self.all.remove(&stream);
        }
    }

    /// An event, or a part of an answer.
    pub(super) fn push(&mut self, stream: StreamId, frame: ServerFrame) {
        let Some(open) = self.all.get_mut(&stream).and_then(|entry| entry.open.as_ref()) else { return };
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
        let before = self.state(stream);
        let Some(entry) = self.all.get_mut(&stream) else { return before };
        if let (Some(open), Some(status)) = (entry.open.take(), status) {
            open.outbox.close(status);
        }
        if entry.calls.is_empty() {
            self.all.remove(&stream);
        }
        before
    }

    /// Closes all, for reasons of this node.
    pub(super) fn close_all(&mut self, status: &Status) {
        self.cut_off.clear();
        for open in std::mem::take(&mut self.all).into_values().filter_map(|entry| entry.open) {
            open.outbox.close(status.clone());
        }
    }
}
