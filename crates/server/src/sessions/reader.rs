//! Reads the frames of one stream, checks them, and hands them to the driver in order. It answers nothing itself.
//! It ends when the client's end is gone, which it reports, or when the driver has closed the stream, which it does not.

use std::ops::RangeInclusive;

use palisade_liveness::StreamId;
use palisade_wire::coord::v1::{ClientFrame, ErrorDetail};
use palisade_world::World;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

use super::frames::{Request, admit};
use super::outbox::Outbox;

/// What streams tell the driver.
#[derive(Debug)]
pub(super) enum Input {
    /// A stream begins. Dropping `stop` ends its reader.
    Began { stream: StreamId, outbox: Outbox, stop: oneshot::Sender<()> },
    /// A frame came.
    Frame { stream: StreamId, call: u64, request: Result<Request, ErrorDetail> },
    /// The client's end is gone, or sent what is no frame; then with the status to end the stream with.
    Broke { stream: StreamId, status: Option<Status> },
}

pub(super) struct Reader {
    pub(super) stream: StreamId,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) ttl_ms: RangeInclusive<u64>,
    pub(super) world: World,
}

impl Reader {
    /// `gone`: nobody reads our answers any more. `stop`: the driver has closed the stream.
    pub(super) async fn run(
        self,
        mut frames: Streaming<ClientFrame>,
        mut gone: oneshot::Receiver<()>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let status = loop {
            let read = tokio::select! {
                biased;
                _ = &mut stop => return,
                _ = &mut gone => break None,
                read = frames.message() => read,
            };
            match read {
                Ok(Some(frame)) => {
                    let call = frame.call;
                    let request = admit(frame, self.ttl_ms.clone(), self.world.unix_ms());
                    let input = Input::Frame { stream: self.stream, call, request };
                    if self.inputs.send(input).await.is_err() {
                        return; // the node stops
                    }
                }
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        };
        let _ = self.inputs.send(Input::Broke { stream: self.stream, status }).await; // or the node stops
    }
}
