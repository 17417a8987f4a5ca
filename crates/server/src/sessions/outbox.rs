//! What a client has yet to read. Bounded: whoever pushes never waits, and learns that the client does not read.
//!
//! Keeps true: all that was pushed is delivered in order, and then the status that the outbox was closed with.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::Stream;
use palisade_wire::coord::v1::ServerFrame;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::status;
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// Frames that a client may leave unread: the answers to everything that one stream may have in flight, and as many events.
const MAX_FRAMES: usize = 4_096;

/// Bytes that a client may leave unread, so that large values cannot use the memory that small frames are allowed. A single
/// frame may be larger: a session that attaches is told of everything that it holds.
const MAX_BYTES: usize = 4 << 20;

/// The client does not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// The driver's end. Dropping it ends the stream after what was pushed.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: mpsc::Sender<ServerFrame>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Of the frames that were pushed and not taken.
    bytes: AtomicUsize,
    closed_with: OnceLock<Status>,
}

/// The client's end.
#[derive(Debug)]
pub(crate) struct OutboxStream {
    frames: mpsc::Receiver<ServerFrame>,
    shared: Arc<Shared>,
    ended: Ended,
    /// Dropped with the stream, which tells the reader that nobody listens any more.
    _gone: oneshot::Sender<()>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    No,
    Yes,
}

/// An outbox, its other end, and what resolves when that other end is dropped.
pub(super) fn outbox() -> (Outbox, OutboxStream, oneshot::Receiver<()>) {
    let (sender, frames) = mpsc::channel(MAX_FRAMES);
    let (tell_gone, gone) = oneshot::channel();
    let shared = Arc::new(Shared::default());
    let stream = OutboxStream { frames, shared: Arc::clone(&shared), ended: Ended::No, _gone: tell_gone };
    (Outbox { frames: sender, shared }, stream, gone)
}

impl Outbox {
    /// Adds a frame. A client that is gone takes everything.
    pub(super) fn push(&self, frame: ServerFrame) -> Result<(), Full> {
        let bytes = frame.encoded_len();
        let before = self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before + bytes > MAX_BYTES {
            return Err(Full);
        }
        match self.frames.try_send(frame) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Full),
        }
    }

    /// Ends the stream with this status, after what was pushed.
    pub(super) fn close(self, status: Status) {
        let _ = self.shared.closed_with.set(status); // consumed here, so it is the only one
    }
}

impl Stream for OutboxStream {
    type Item = Result<ServerFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended == Ended::Yes {
            return Poll::Ready(None);
        }
        match self.frames.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(frame)) => {
                self.shared.bytes.fetch_sub(frame.encoded_len(), Ordering::Relaxed);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.ended = Ended::Yes;
                let status = self.shared.closed_with.get().cloned().unwrap_or_else(node_stops);
                Poll::Ready(Some(Err(status)))
            }
        }
    }
}

/// What was in flight may have been applied.
pub(super) fn node_stops() -> Status {
    status::refuse(status::unknown(Kind::NoStoreLeader, "this node stops: attach through another"))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use palisade_wire::coord::v1::server_frame::Body;
    use palisade_wire::coord::v1::{Granted, KeptAlive, LeaderValue};

    use super::*;

    fn small(call: u64) -> ServerFrame {
        ServerFrame { call, body: Some(Body::KeptAlive(KeptAlive { sessions: vec![1], not_renewed: vec![] })) }
    }

    fn large() -> ServerFrame {
        let value = LeaderValue { data: vec![0; 64 << 10], ..LeaderValue::default() };
        let grant = palisade_wire::coord::v1::Grant { value: Some(value), ..Default::default() };
        ServerFrame { call: 0, body: Some(Body::Granted(Granted { header: None, grant: Some(grant) })) }
    }

    #[tokio::test]
    async fn what_was_pushed_comes_before_the_status() {
        let (outbox, mut stream, _gone) = outbox();
        outbox.push(small(1)).unwrap();
        outbox.push(small(2)).unwrap();
        outbox.close(Status::aborted("enough"));
        assert_eq!(stream.next().await.unwrap().unwrap().call, 1);
        assert_eq!(stream.next().await.unwrap().unwrap().call, 2);
        assert_eq!(stream.next().await.unwrap().unwrap_err().message(), "enough");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_dropped_driver_ends_the_stream_as_unknown() {
        let (outbox, mut stream, _gone) = outbox();
        drop(outbox);
        let status = stream.next().await.unwrap().unwrap_err();
        let detail = status::detail(&status).expect("it is typed");
        assert_eq!(detail.outcome(), palisade_wire::coord::v1::error_detail::Outcome::Unknown);
    }

    #[tokio::test]
    async fn frames_and_bytes_are_bounded() {
        let (many, _stream, _gone) = outbox();
        let pushed = (0..).take_while(|call| many.push(small(*call)).is_ok()).count();
        assert_eq!(pushed, MAX_FRAMES);

        let (heavy, mut stream, _gone) = outbox();
        let pushed = (0..).take_while(|_| heavy.push(large()).is_ok()).count();
        assert!(pushed >= 60 && pushed * (64 << 10) <= MAX_BYTES, "{pushed}");
        assert!(stream.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_noticed() {
        let (outbox, stream, gone) = outbox();
        drop(stream);
        assert!(gone.await.is_err());
        assert_eq!(outbox.push(small(1)), Ok(()));
    }
}
