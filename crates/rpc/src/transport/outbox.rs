//! What waits to be sent on one stream, encoded already and gathered into batches. Whoever sends appends; the stream's body
//! takes a whole batch at a time, so that the price of a gRPC message is shared by all that came meanwhile.
//!
//! Keeps true: frames leave in the order in which they came; each has a place by which it is known later whether it was taken.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::BATCH_BYTES;
use super::frames::Piece;

/// A frame of more bytes is encoded before the lock is taken, and travels alone.
const LARGE: usize = 64 << 10;

/// Frames and bytes that may wait. Without a bound: answers, whose number the unanswered calls bound.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

/// Why a frame was not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotQueued {
    Full,
    Ended,
}

/// The queue of one stream.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    ready: Notify,
    /// Woken when a batch has been taken.
    taken: Notify,
}

#[derive(Default)]
struct State {
    full: VecDeque<Batch>,
    open: Batch,
    waiting: usize,
    bytes: usize,
    /// Place of the next frame.
    next: u64,
    ended: bool,
    /// Size of the last batch: room for as much is made at once.
    last: usize,
}

#[derive(Default)]
struct Batch {
    frames: usize,
    bytes: BytesMut,
}

impl Outbox {
    /// Appends a frame; gives its place.
    pub(crate) fn push(&self, frame: &impl Piece, bound: Option<Bound>) -> Result<u64, NotQueued> {
        let len = frame.len();
        let alone = (len > LARGE).then(|| {
            let mut bytes = BytesMut::with_capacity(len);
            frame.put(&mut bytes);
            bytes
        });
        let mut state = self.state();
        if state.ended {
            return Err(NotQueued::Ended);
        }
        if bound.is_some_and(|bound| state.waiting >= bound.frames || state.bytes + len > bound.bytes) {
            return Err(NotQueued::Full);
        }
        let first = state.waiting == 0;
        if state.open.bytes.len() + len > BATCH_BYTES {
            state.close_batch();
        }
        match alone {
            Some(bytes) => {
                state.close_batch();
                state.full.push_back(Batch { frames: 1, bytes });
            }
            None => {
                if state.open.bytes.capacity() == 0 {
                    let room = state.last.max(len);
                    state.open.bytes.reserve(room);
                }
                frame.put(&mut state.open.bytes);
                state.open.frames += 1;
            }
        }
        state.waiting += 1;
        state.bytes += len;
        let place = state.next;
        state.next += 1;
        drop(state);
        if first {
            self.ready.notify_one();
        }
        Ok(place)
    }

    /// What waits, up to a batch; `None` after the end. Cancelling it loses nothing.
    pub(crate) async fn next(&self) -> Option<Bytes> {
        loop {
            // A frame that comes after the look leaves a permit.
            match self.take() {
                Some(batch) => return batch,
                None => self.ready.notified().await,
            }
        }
    }

    /// `None`: nothing waits. `Some(None)`: the end.
    fn take(&self) -> Option<Option<Bytes>> {
        let mut state = self.state();
        if state.ended {
            return Some(None);
        }
        let batch = match state.full.pop_front() {
            Some(batch) => batch,
            None if state.open.frames > 0 => std::mem::take(&mut state.open),
            None => return None,
        };
        state.waiting -= batch.frames;
        state.bytes -= batch.bytes.len();
        state.last = batch.bytes.len().min(BATCH_BYTES);
        drop(state);
        self.taken.notify_waiters();
        Some(Some(batch.bytes.freeze()))
    }

    /// Resolves when less than the bound waits, or after the end.
    pub(crate) async fn room(&self, bound: Bound) {
        while !self.has_room(bound) {
            let taken = self.taken.notified();
            tokio::pin!(taken);
            // From here on no wake is missed.
            taken.as_mut().enable();
            if self.has_room(bound) {
                return;
            }
            taken.await;
        }
    }

    fn has_room(&self, bound: Bound) -> bool {
        let state = self.state();
        state.ended || (state.waiting < bound.frames && state.bytes < bound.bytes)
    }

    /// Takes nothing in any more and gives nothing out. Places below what it gives have been taken: they may have reached the
    /// other side.
    pub(crate) fn end(&self) -> u64 {
        let mut state = self.state();
        let below = state.next - state.waiting as u64;
        state.ended = true;
        let left = (std::mem::take(&mut state.full), std::mem::take(&mut state.open));
        drop(state);
        drop(left);
        self.ready.notify_one();
        self.taken.notify_waiters();
        below
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close_batch(&mut self) {
        if self.open.frames > 0 {
            let batch = std::mem::take(&mut self.open);
            self.full.push_back(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::v1::{Answer, Frame, answer, frame};

    fn frame(id: u64, size: usize) -> Frame {
        let result = Some(answer::Result::Payload(vec![7; size].into()));
        Frame { kind: Some(frame::Kind::Answer(Answer { id, result })) }
    }

    fn ids(batch: Bytes) -> Vec<u64> {
        let frames = super::super::frames::Unbatched(batch);
        frames
            .map(|frame| match frame.unwrap().kind {
                Some(frame::Kind::Answer(answer)) => answer.id,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_waits_leaves_together_and_large_frames_alone_in_their_order() {
        let outbox = Outbox::default();
        for (id, size) in [(1, 10), (2, 10), (3, LARGE * 2), (4, 10), (5, LARGE - 100), (6, LARGE - 100)] {
            assert_eq!(outbox.push(&frame(id, size), None), Ok(id - 1));
        }
        for id in 7..=9 {
            outbox.push(&frame(id, LARGE - 100), None).unwrap();
        }
        let mut seen = Vec::new();
        while let Some(batch) = outbox.next().now_or_never() {
            let batch = batch.unwrap();
            assert!(batch.len() <= BATCH_BYTES || seen.is_empty());
            seen.push(ids(batch));
        }
        assert_eq!(seen, [vec![1, 2], vec![3], vec![4, 5, 6, 7, 8], vec![9]]);
        assert_eq!(outbox.end(), 9, "all have been taken");
    }

    #[test]
    fn a_bound_holds_until_a_batch_is_taken_and_the_end_is_the_end() {
        let (outbox, bound) = (Outbox::default(), Bound { frames: 2, bytes: 1000 });
        outbox.push(&frame(1, 1), Some(bound)).unwrap();
        assert_eq!(outbox.push(&frame(2, 2000), Some(bound)), Err(NotQueued::Full));
        outbox.push(&frame(2, 1), Some(bound)).unwrap();
        assert_eq!(outbox.push(&frame(3, 1), Some(bound)), Err(NotQueued::Full));
        assert!(outbox.room(bound).now_or_never().is_none());
        assert_eq!(ids(outbox.next().now_or_never().unwrap().unwrap()), [1, 2]);
        assert!(outbox.room(bound).now_or_never().is_some());
        assert_eq!(outbox.push(&frame(3, 1), Some(bound)), Ok(2));
        assert_eq!(outbox.end(), 2, "the third was not taken");
        assert_eq!(outbox.push(&frame(4, 1), None), Err(NotQueued::Ended));
        assert_eq!(outbox.next().now_or_never(), Some(None));
    }
}
