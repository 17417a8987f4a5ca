//! Reads the frames of one stream, checks them, and hands them to the driver in order. It answers nothing itself.
//! It ends when the client's end is gone, which it reports, or when the driver has closed the stream, which it does not.
//!
//! Keeps true: of a stream that another node relays, only that node's last word says that the client is gone.

use std::ops::RangeInclusive;

use futures_util::{Stream, StreamExt};
use palisade_coord_core::SessionId;
use palisade_liveness::StreamId;
use palisade_wire::coord::v1::client_frame::Body;
use palisade_wire::coord::v1::{ClientFrame, ErrorDetail, ServerFrame};
use palisade_world::World;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::frames::{Request, admit};
use super::outbox::Outbox;

/// What streams tell the driver.
#[derive(Debug)]
pub(super) enum Input {
    /// A stream begins. Dropping `stop` ends its reader.
    Began { stream: StreamId, outbox: Outbox, stop: oneshot::Sender<()> },
    /// A frame came.
    Frame { stream: StreamId, call: u64, request: Result<Request, ErrorDetail> },
    /// A call about a session that is attached to some stream. Dropping `answer`: nothing is known.
    Call { session: SessionId, request: Request, answer: oneshot::Sender<ServerFrame> },
    /// The client's end is gone, or sent what is no frame; then with the status to end the stream with.
    Broke { stream: StreamId, status: Option<Status> },
    /// The node that relayed the stream is gone, without a word about the client.
    RelayLost { stream: StreamId },
}

/// Who is at the other end of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Client,
    /// A node that passes a client's frames on.
    Relay,
}

pub(super) struct Reader {
    pub(super) stream: StreamId,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) by: By,
    pub(super) ttl_ms: RangeInclusive<u64>,
    pub(super) world: World,
}

impl Reader {
    /// `gone`: nobody reads our answers any more. `stop`: the driver has closed the stream.
    pub(super) async fn run(
        self,
        mut frames: impl Stream<Item = Result<ClientFrame, Status>> + Unpin,
        mut gone: oneshot::Receiver<()>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let stream = self.stream;
        let end = loop {
            let read = tokio::select! {
                biased;
                _ = &mut stop => return,
                _ = &mut gone => break self.broke(None),
                read = frames.next() => read,
            };
            match read {
                Some(Ok(frame)) if self.by == By::Relay && is_client_gone(&frame) => {
                    break Input::Broke { stream, status: None };
                }
                Some(Ok(frame)) => {
                    let call = frame.call;
                    let request = admit(frame, self.ttl_ms.clone(), self.world.unix_ms());
                    if self.inputs.send(Input::Frame { stream, call, request }).await.is_err() {
                        return; // the node stops
                    }
                }
                None => break self.broke(None),
                Some(Err(status)) => break self.broke(Some(status)),
            }
        };
        let _ = self.inputs.send(end).await; // or the node stops
    }

    /// The other end is gone.
    fn broke(&self, status: Option<Status>) -> Input {
        match self.by {
            By::Client => Input::Broke { stream: self.stream, status },
            By::Relay => Input::RelayLost { stream: self.stream },
        }
    }
}

fn is_client_gone(frame: &ClientFrame) -> bool {
    matches!(frame.body, Some(Body::ClientGone(_)))
}
