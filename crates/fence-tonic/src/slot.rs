//! Work that can be taken away: a handler's future or a stream of answers, polled under a lock, so that whoever raises a guard
//! can drop it between two of its steps, and knows afterwards that it never takes another one.
//!
//! It never blocks: work that is being polled at the moment is marked, and dropped when that poll ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::task::Waker;

/// A place for work that runs under a token.
pub(crate) struct Slot<W> {
    /// Set for good by [`End::end`].
    ended: AtomicBool,
    inside: Mutex<Inside<W>>,
}

struct Inside<W> {
    /// `None` once it is over or was taken away.
    work: Option<W>,
    /// Of whoever waits for the work.
    waker: Option<Waker>,
}

/// Work whose kind is forgotten.
pub(crate) trait End: Send + Sync {
    /// Takes the work away. `false`: it is being polled right now, so that it is gone only a moment later; ask again.
    fn end(&self) -> bool;
}

/// What came of a poll.
pub(crate) enum Polled<T> {
    /// What the work gave.
    Gave(T),
    /// It was taken away.
    Ended,
}

impl<W> Slot<W> {
    pub(crate) fn new(work: W) -> Arc<Slot<W>> {
        let slot = Slot::empty();
        slot.put(work);
        slot
    }

    /// A place that is taken before the work is there.
    pub(crate) fn empty() -> Arc<Slot<W>> {
        let inside = Inside { work: None, waker: None };
        Arc::new(Slot { ended: AtomicBool::new(false), inside: Mutex::new(inside) })
    }

    /// Puts the work in. What was taken away before stays away: the first poll says so.
    pub(crate) fn put(&self, work: W) {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).work = Some(work);
    }

    /// One step of the work, if it is still there.
    pub(crate) fn poll<T>(&self, waker: &Waker, step: impl FnOnce(&mut W) -> T) -> Polled<T> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ended.load(Ordering::Acquire) {
            inside.work = None;
        }
        let Some(work) = &mut inside.work else { return Polled::Ended };
        let gave = step(work);
        // Marked meanwhile: what this step gave is still true, but there is no next one.
        if self.ended.load(Ordering::Acquire) {
            inside.work = None;
        }
        inside.waker = Some(waker.clone());
        Polled::Gave(gave)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl<W: Send> End for Slot<W> {
    fn end(&self) -> bool {
        self.ended.store(true, Ordering::Release);
        let (work, waker) = match self.inside.try_lock() {
            Ok(mut inside) => (inside.work.take(), inside.waker.take()),
            Err(TryLockError::Poisoned(poisoned)) => {
                let mut inside = poisoned.into_inner();
                (inside.work.take(), inside.waker.take())
            }
            Err(TryLockError::WouldBlock) => return false,
        };
        // Not under the lock: both run foreign code.
        drop(work);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_was_taken_away_takes_no_further_step() {
        let slot = Slot::new(0);
        let step = |work: &mut i32| {
            *work += 1;
            *work
        };
        assert!(matches!(slot.poll(Waker::noop(), step), Polled::Gave(1)));
        assert!(slot.end());
        assert!(matches!(slot.poll(Waker::noop(), step), Polled::Ended));
        assert!(slot.end(), "again is the same");
    }

    #[test]
    fn work_that_is_being_polled_is_gone_when_the_poll_ends() {
        let slot = Slot::new(());
        let other = slot.clone();
        let during = slot.poll(Waker::noop(), |()| other.end());
        assert!(matches!(during, Polled::Gave(false)));
        assert!(matches!(slot.poll(Waker::noop(), |()| ()), Polled::Ended));
    }
}
