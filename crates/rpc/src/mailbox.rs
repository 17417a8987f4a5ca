//! What waits for its turn at one endpoint. Two lanes: control is short and goes first, work is everything else.
//!
//! Keeps true: both lanes are bounded, in messages and in bytes; what was accepted counts until its turn has come; after the end
//! nothing is accepted, and what had been is dropped with it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_planted::{self as planted, Bug};
use tokio::sync::Notify;

use crate::interface::Lane;

/// Control messages that may wait. A heartbeat per peer and second is far below it; more is a flood.
pub(crate) const CONTROL: usize = 256;

/// Encoded bytes that may wait: six messages of the largest size. Messages of this process are not encoded and count as none.
const BYTES: usize = 64 << 20;

/// Tells that one gateway may have unhandled in a mailbox of that size: a quarter is left for its asks, and for others.
pub(crate) fn window(mailbox: usize) -> u64 {
    (mailbox - mailbox / 4).max(1) as u64
}

/// The way in, for whoever brings messages.
pub(crate) struct Mailbox<M> {
    /// Messages that may wait in the work lane.
    limit: usize,
    lanes: Mutex<Lanes<M>>,
    arrived: Notify,
    /// Accepted and not yet taken by the endpoint's loop.
    work: AtomicUsize,
    bytes: AtomicUsize,
    /// Looked at before each message, without the lock.
    control: AtomicBool,
}

struct Lanes<M> {
    control: VecDeque<M>,
    work: VecDeque<(M, usize)>,
    ended: bool,
}

/// Why a message was not accepted; it is handed back.
pub(crate) enum Refused<M> {
    /// A lane is full.
    Full {
        message: M,
        limit: usize,
    },
    Ended(M),
}

/// The way out: the endpoint's loop. Its end is the mailbox's end.
pub(crate) struct Inbox<M> {
    mailbox: Arc<Mailbox<M>>,
    /// Taken all at once, so that the lock is not.
    taken: VecDeque<(M, usize)>,
}

impl<M> Mailbox<M> {
    /// Room for `limit` messages of work.
    pub(crate) fn new(limit: usize) -> (Arc<Mailbox<M>>, Inbox<M>) {
        let lanes = Lanes { control: VecDeque::new(), work: VecDeque::new(), ended: false };
        let mailbox = Arc::new(Mailbox {
            limit,
            lanes: Mutex::new(lanes),
            arrived: Notify::new(),
            work: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            control: AtomicBool::new(false),
        });
        (mailbox.clone(), Inbox { mailbox, taken: VecDeque::new() })
    }

    /// Messages of work that wait, and of control.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.work.load(Ordering::Acquire), self.lanes().control.len())
    }

    /// Messages that may wait.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Accepts a message of so many bytes, or hands it back. Never blocks.
    pub(crate) fn push(&self, lane: Lane, message: M, bytes: usize) -> Result<(), Refused<M>> {
        let lane = if planted::is(Bug::ControlBehindWork) { Lane::Work } else { lane };
        let mut lanes = self.lanes();
        if lanes.ended {
            return Err(Refused::Ended(message));
        }
        let first = match lane {
            Lane::Control if lanes.control.len() >= CONTROL => {
                return Err(Refused::Full { message, limit: CONTROL });
            }
            Lane::Control => {
                lanes.control.push_back(message);
                self.control.store(true, Ordering::Release);
                lanes.control.len() == 1
            }
            // Only pushing adds, and pushing holds the lock.
            Lane::Work if self.work.load(Ordering::Acquire) >= self.limit => {
                return Err(Refused::Full { message, limit: self.limit });
            }
            Lane::Work if bytes > 0 && self.bytes.load(Ordering::Acquire) + bytes > BYTES => {
                return Err(Refused::Full { message, limit: self.limit });
            }
            Lane::Work => {
                self.work.fetch_add(1, Ordering::AcqRel);
                self.bytes.fetch_add(bytes, Ordering::AcqRel);
                lanes.work.push_back((message, bytes));
                lanes.work.len() == 1
            }
        };
        drop(lanes);
        if first {
            self.arrived.notify_one();
        }
        Ok(())
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<M>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Inbox<M> {
    /// The next message if one waits: control first.
    pub(crate) fn try_next(&mut self) -> Option<M> {
        if self.mailbox.control.load(Ordering::Acquire) {
            let mut lanes = self.mailbox.lanes();
            let next = lanes.control.pop_front();
            self.mailbox.control.store(!lanes.control.is_empty(), Ordering::Release);
            if next.is_some() {
                return next;
            }
        }
        if self.taken.is_empty() {
            std::mem::swap(&mut self.taken, &mut self.mailbox.lanes().work);
        }
        let (message, bytes) = self.taken.pop_front()?;
        self.mailbox.work.fetch_sub(1, Ordering::AcqRel);
        self.mailbox.bytes.fetch_sub(bytes, Ordering::AcqRel);
        Some(message)
    }

    /// Waits for the next message. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> M {
        loop {
            if let Some(message) = self.try_next() {
                return message;
            }
            // A message that came since is remembered by the permit.
            self.mailbox.arrived.notified().await;
        }
    }

    /// Accepts nothing more and drops what waits.
    pub(crate) fn end(&mut self) {
        let left = {
            let mut lanes = self.mailbox.lanes();
            lanes.ended = true;
            (std::mem::take(&mut lanes.control), std::mem::take(&mut lanes.work), std::mem::take(&mut self.taken))
        };
        // Not under the lock: each of them answers for itself.
        drop(left);
    }
}

impl<M> Drop for Inbox<M> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full<M>(pushed: Result<(), Refused<M>>) -> Option<usize> {
        match pushed {
            Err(Refused::Full { limit, .. }) => Some(limit),
            _ => None,
        }
    }

    #[test]
    fn control_goes_first_and_has_room_of_its_own() {
        let (mailbox, mut inbox) = Mailbox::new(2);
        for work in [1, 2] {
            assert!(mailbox.push(Lane::Work, work, 0).is_ok());
        }
        assert_eq!(full(mailbox.push(Lane::Work, 3, 0)), Some(2));
        assert!(mailbox.push(Lane::Control, 10, 0).is_ok());
        assert_eq!(inbox.try_next(), Some(10));
        assert_eq!(inbox.try_next(), Some(1));
        // The second has been taken out of the lock, and still counts until its turn has come.
        assert!(mailbox.push(Lane::Work, 3, 0).is_ok());
        assert_eq!(full(mailbox.push(Lane::Work, 4, 0)), Some(2));
        assert!(mailbox.push(Lane::Control, 11, 0).is_ok());
        assert_eq!([inbox.try_next(), inbox.try_next(), inbox.try_next()], [Some(11), Some(2), Some(3)]);
        assert_eq!(inbox.try_next(), None);
        for control in 0..CONTROL {
            assert!(mailbox.push(Lane::Control, control, 0).is_ok());
        }
        assert_eq!(full(mailbox.push(Lane::Control, 0, 0)), Some(CONTROL));
    }

    #[test]
    fn bytes_are_bounded_too_and_given_back() {
        let (mailbox, mut inbox) = Mailbox::new(10);
        assert!(mailbox.push(Lane::Work, 1, BYTES - 1).is_ok());
        assert_eq!(full(mailbox.push(Lane::Work, 2, 2)), Some(10));
        assert!(mailbox.push(Lane::Work, 3, 0).is_ok(), "what has no bytes takes none");
        assert_eq!(inbox.try_next(), Some(1));
        assert!(mailbox.push(Lane::Work, 4, BYTES).is_ok());
    }

    #[test]
    fn after_the_end_everything_is_handed_back_and_what_waited_is_dropped() {
        let (mailbox, inbox) = Mailbox::new(10);
        let waits = Arc::new(());
        assert!(mailbox.push(Lane::Work, waits.clone(), 0).is_ok());
        assert!(mailbox.push(Lane::Control, waits.clone(), 0).is_ok());
        drop(inbox);
        assert_eq!(Arc::strong_count(&waits), 1);
        assert!(matches!(mailbox.push(Lane::Work, waits, 0), Err(Refused::Ended(_))));
    }
}
