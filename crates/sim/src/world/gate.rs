//! A process that is paused (SIGSTOP) notices nothing: no timer of its world rings and no socket says anything until it goes
//! on. Then everything that was due is due at once, as for a real process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The gate before one process. Clones are the same gate.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    closed: bool,
    waiting: Vec<Waker>,
}

impl Gate {
    /// The process stands still from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// The process goes on.
    pub(crate) fn open(&self) {
        let waiting = {
            let mut inner = self.lock();
            inner.closed = false;
            std::mem::take(&mut inner.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether the process stands still.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ready while the gate is open; wakes the task when it opens.
    pub(crate) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if !inner.closed {
            return Poll::Ready(());
        }
        if !inner.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until the gate is open.
    pub(crate) async fn opened(&self) {
        std::future::poll_fn(|cx| self.poll_open(cx)).await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
