//! What a client has yet to read. Bounded: whoever pushes never waits, and learns that the client does not read.
//!
//! A client that reads may be told much at once: a session that waits in a thousand elections can win them all by one command.
//! So much that is unread is no fault by itself; that nothing of it is taken for a while is.
//!
//! Keeps true: all that was pushed is delivered in order, and then the status that the outbox was closed with.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use palisade_wire::coord::v1::ServerFrame;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::status;
use palisade_world::World;
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// Frames that a client may leave unread for as long as it likes: the answers to everything that one stream may have in
/// flight, and as many events.
const FRAMES: usize = 4_096;

/// Bytes likewise, so that large values cannot use the memory that small frames are allowed.
const BYTES: usize = 4 << 20;

/// How long a client with more than that unread may take nothing of it. A client that reads takes a frame in far less, also over
/// a bad link and on a busy machine.
const PATIENCE: Duration = Duration::from_secs(1);

/// Frames that it may leave unread at all, and bytes: more than 1,024 grants with values of 64 KiB. A single frame may be larger:
/// a session that attaches is told of everything that it holds.
const MAX_FRAMES: usize = 65_536;
const MAX_BYTES: usize = 80 << 20;

/// The client does not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// The driver's end. Dropping it ends the stream after what was pushed.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: mpsc::Sender<ServerFrame>,
    shared: Arc<Shared>,
    /// Set while there is much to read: how much had been taken then, and when that was.
    behind: Option<(u64, Duration)>,
    world: World,
}

#[derive(Debug, Default)]
struct Shared {
    /// Of the frames that were pushed and not taken.
    bytes: AtomicUsize,
    /// Frames that were taken, ever.
    taken: AtomicU64,
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
pub(super) fn outbox(world: &World) -> (Outbox, OutboxStream, oneshot::Receiver<()>) {
    let (sender, frames) = mpsc::channel(MAX_FRAMES);
    let (tell_gone, gone) = oneshot::channel();
    let shared = Arc::new(Shared::default());
    let stream = OutboxStream { frames, shared: Arc::clone(&shared), ended: Ended::No, _gone: tell_gone };
    (Outbox { frames: sender, shared, behind: None, world: world.clone() }, stream, gone)
}

impl Outbox {
    /// Adds a frame. A client that is gone takes everything.
    pub(super) fn push(&mut self, frame: ServerFrame) -> Result<(), Full> {
        self.push_at(frame, self.world.now())
    }

    fn push_at(&mut self, frame: ServerFrame, now: Duration) -> Result<(), Full> {
        let bytes = frame.encoded_len();
        let before = self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        let unread = MAX_FRAMES - self.frames.capacity();
        if before > 0 && before + bytes > MAX_BYTES {
            return Err(Full);
        }
        if unread < FRAMES && before + bytes <= BYTES {
            self.behind = None;
        } else if before > 0 {
            self.is_behind(now)?;
        }
        match self.frames.try_send(frame) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Full),
        }
    }

    /// There is much to read: whether any of it was taken lately.
    fn is_behind(&mut self, now: Duration) -> Result<(), Full> {
        let taken = self.shared.taken.load(Ordering::Relaxed);
        match self.behind {
            Some((then, since)) if then == taken => {
                if now.saturating_sub(since) > PATIENCE {
                    Err(Full)
                } else {
                    Ok(())
                }
            }
            Some(_) | None => {
                self.behind = Some((taken, now));
                Ok(())
            }
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
                self.shared.taken.fetch_add(1, Ordering::Relaxed);
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

    const NOW: Duration = Duration::from_secs(100);

    #[tokio::test]
    async fn what_was_pushed_comes_before_the_status() {
        let (mut outbox, mut stream, _gone) = outbox(&World::real());
        outbox.push_at(small(1), NOW).unwrap();
        outbox.push_at(small(2), NOW).unwrap();
        outbox.close(Status::aborted("enough"));
        assert_eq!(stream.next().await.unwrap().unwrap().call, 1);
        assert_eq!(stream.next().await.unwrap().unwrap().call, 2);
        assert_eq!(stream.next().await.unwrap().unwrap_err().message(), "enough");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_dropped_driver_ends_the_stream_as_unknown() {
        let (outbox, mut stream, _gone) = outbox(&World::real());
        drop(outbox);
        let status = stream.next().await.unwrap().unwrap_err();
        let detail = status::detail(&status).expect("it is typed");
        assert_eq!(detail.outcome(), palisade_wire::coord::v1::error_detail::Outcome::Unknown);
    }

    #[tokio::test]
    async fn frames_and_bytes_are_bounded() {
        let (mut many, _stream, _gone) = outbox(&World::real());
        let pushed = (0..).take_while(|call| many.push_at(small(*call), NOW).is_ok()).count();
        assert_eq!(pushed, MAX_FRAMES);

        let (mut heavy, mut stream, _gone) = outbox(&World::real());
        let pushed = (0..).take_while(|_| heavy.push_at(large(), NOW).is_ok()).count();
        assert!(pushed > 1_024 && pushed * (64 << 10) <= MAX_BYTES, "{pushed}");
        assert!(stream.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_client_that_is_told_much_at_once_and_reads_is_not_cut_off() {
        let (mut outbox, mut stream, _gone) = outbox(&World::real());
        for _ in 0..1_024 {
            outbox.push_at(large(), NOW).expect("a burst is no fault");
        }
        // It takes a frame now and then, for longer than it might take none.
        for second in 1..10 {
            assert!(stream.next().await.unwrap().is_ok());
            outbox.push_at(small(second), NOW + PATIENCE * u32::try_from(second).unwrap()).expect("it reads");
        }
    }

    #[tokio::test]
    async fn a_client_with_much_unread_that_takes_nothing_is_noticed() {
        let (mut outbox, mut stream, _gone) = outbox(&World::real());
        while outbox.behind.is_none() {
            outbox.push_at(large(), NOW).unwrap();
        }
        assert_eq!(outbox.push_at(small(1), NOW + PATIENCE), Ok(()));
        assert_eq!(outbox.push_at(small(2), NOW + PATIENCE * 2), Err(Full));
        // With little unread it may take its time.
        while outbox.shared.bytes.load(Ordering::Relaxed) > BYTES / 2 {
            assert!(stream.next().await.unwrap().is_ok());
        }
        assert_eq!(outbox.push_at(small(3), NOW + PATIENCE * 9), Ok(()));
        assert_eq!(outbox.push_at(small(4), NOW + PATIENCE * 99), Ok(()));
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_noticed() {
        let (mut outbox, stream, gone) = outbox(&World::real());
        drop(stream);
        assert!(gone.await.is_err());
        assert_eq!(outbox.push_at(small(1), NOW), Ok(()));
    }
}
