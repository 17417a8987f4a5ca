//! A stream that its owner can take back at once, whoever polls it.
//!
//! A request stream is polled by the connection's task. When openraft gives a stream up it opens another one over the same
//! shared state, so the old one must not be polled once more, however late the connection notices.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::stream::{BoxStream, Stream};

type Slot<T> = Arc<Mutex<Option<BoxStream<'static, T>>>>;

/// What is handed out. Ends when it was taken back.
pub(crate) struct Revocable<T>(Slot<T>);

/// Takes the stream back when it is dropped.
pub(crate) struct Revoke<T>(Slot<T>);

/// Hands out a stream that can be taken back.
pub(crate) fn revocable<T>(stream: BoxStream<'static, T>) -> (Revocable<T>, Revoke<T>) {
    let slot = Arc::new(Mutex::new(Some(stream)));
    (Revocable(Arc::clone(&slot)), Revoke(slot))
}

impl<T> Stream for Revocable<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(stream) => stream.as_mut().poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}

impl<T> Drop for Revoke<T> {
    fn drop(&mut self) {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(stream); // outside the lock: it may hold whatever it waits for
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};

    use super::*;

    #[test]
    fn nothing_comes_after_it_was_taken_back() {
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let endless = stream::repeat_with(move || Arc::strong_count(&inside)).boxed();
        let (mut handed_out, revoke) = revocable(endless);
        assert_eq!(handed_out.next().now_or_never(), Some(Some(2)));
        drop(revoke);
        assert_eq!(handed_out.next().now_or_never(), Some(None));
        assert_eq!(Arc::strong_count(&held), 1, "what the stream held is free");
    }
}
