//! What the tells of one gateway share, wherever they go: how many may be unhandled, and where refusals are told.
//!
//! Keeps true: a gateway has no more tells on the way than the endpoint has room for, so that a fast sender is held up here, at
//! once and by name, instead of being refused over there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::gateway::learn;
use crate::interface::Lane;
use crate::mailbox::CONTROL;
use crate::{Refusal, Refusals, RpcError};

/// The tells of one gateway and its clones.
pub(crate) struct Tells {
    pub(crate) refusals: Refusals,
    /// Shared by all gateways of this process to that election.
    seen: Option<Arc<AtomicU64>>,
    control: Window,
    work: Window,
}

impl Tells {
    /// `window`: how many may be unhandled, control apart.
    pub(crate) fn new(seen: Option<Arc<AtomicU64>>, window: u64) -> Tells {
        let (control, work) = (Window::new(CONTROL as u64), Window::new(window));
        Tells { refusals: Refusals::default(), seen, control, work }
    }

    /// Each lane has a window of its own, as it has a mailbox and a stream of its own.
    pub(crate) fn window(&self, lane: Lane) -> &Window {
        match lane {
            Lane::Control => &self.control,
            Lane::Work => &self.work,
        }
    }

    /// Tells of one that was not handled, or of a break.
    pub(crate) fn report(&self, refusal: Refusal) {
        learn(self.seen.as_deref(), &refusal.error);
        self.refusals.push(refusal);
    }
}

/// How many tells are on the way.
pub(crate) struct Window {
    limit: u64,
    sent: AtomicU64,
    handled: AtomicU64,
    room: Notify,
}

impl Window {
    fn new(limit: u64) -> Window {
        let (sent, handled) = (AtomicU64::new(0), AtomicU64::new(0));
        Window { limit: limit.max(1), sent, handled, room: Notify::new() }
    }

    /// So many may be unhandled.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// One more is on the way, if there is room.
    pub(crate) fn take(&self) -> Result<(), RpcError> {
        let sent = self.sent.fetch_add(1, Ordering::AcqRel);
        if sent.saturating_sub(self.handled.load(Ordering::Acquire)) < self.limit {
            return Ok(());
        }
        self.take_back();
        Err(RpcError::Overloaded { limit: self.limit })
    }

    /// It was not sent after all.
    pub(crate) fn give_back(&self) {
        self.take_back();
        self.room.notify_waiters();
    }

    fn take_back(&self) {
        // A restart in between has forgotten it: below zero the window would be shut for good.
        let _ = self.sent.fetch_update(Ordering::AcqRel, Ordering::Acquire, |sent| Some(sent.saturating_sub(1)));
    }

    /// So many have been handled or refused since [`Window::restart`].
    pub(crate) fn handled(&self, total: u64) {
        self.handled.fetch_max(total, Ordering::AcqRel);
        self.room.notify_waiters();
    }

    /// One more has been handled or refused.
    pub(crate) fn handled_one(&self) {
        self.handled.fetch_add(1, Ordering::AcqRel);
        self.room.notify_waiters();
    }

    /// A new stream: what was on the way is not any more. A tell that is sent at this moment by another thread may be counted
    /// on the other side of the break; the window is one wider or narrower until the next break.
    pub(crate) fn restart(&self) {
        self.sent.store(0, Ordering::Release);
        self.handled.store(0, Ordering::Release);
        self.room.notify_waiters();
    }

    /// Whether all that were sent are known to be handled.
    pub(crate) fn settled(&self) -> bool {
        self.sent.load(Ordering::Acquire) <= self.handled.load(Ordering::Acquire)
    }

    /// Resolves when there is room for one.
    pub(crate) async fn room(&self) {
        while !self.has_room() {
            let room = self.room.notified();
            tokio::pin!(room);
            // From here on no wake is missed.
            room.as_mut().enable();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    fn has_room(&self) -> bool {
        self.sent.load(Ordering::Acquire).saturating_sub(self.handled.load(Ordering::Acquire)) < self.limit
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_window_is_full_until_something_is_handled_or_the_stream_is_new() {
        let all = Tells::new(None, 2);
        let tells = all.window(Lane::Work);
        tells.take().unwrap();
        assert!(tells.room().now_or_never().is_some());
        tells.take().unwrap();
        assert_eq!(tells.take(), Err(RpcError::Overloaded { limit: 2 }));
        assert!(tells.room().now_or_never().is_none() && !tells.settled());
        tells.handled(1);
        assert!(tells.room().now_or_never().is_some());
        tells.take().unwrap();
        assert!(tells.take().is_err());
        tells.give_back();
        tells.take().unwrap();
        tells.handled(1); // old news
        assert!(tells.take().is_err());
        tells.restart();
        assert!(tells.settled());
        // Sent on the stream that broke, and given back after the next has begun.
        tells.give_back();
        tells.take().unwrap();
        tells.take().unwrap();
        assert!(tells.take().is_err());
    }
}
