//! The serials of one session: campaigns and request ids share one counter, so that the store remembers both in one place.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use palisade_wire::coord::v1::RequestId;

/// Hands out serials, and knows which of them wait for their answers.
#[derive(Debug)]
pub(crate) struct Serials {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    last: u64,
    /// Handed out and not answered.
    open: BTreeSet<u64>,
}

impl Serials {
    /// Those of a session whose first serial is this one.
    pub(crate) fn starting_at(first: u64) -> Serials {
        Serials { inner: Mutex::new(Inner { last: first.saturating_sub(1), open: BTreeSet::new() }) }
    }

    /// The next serial. It counts as unanswered until it is dropped.
    pub(crate) fn next(self: &Arc<Self>) -> Serial {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last += 1;
        let serial = inner.last;
        inner.open.insert(serial);
        Serial { serials: Arc::clone(self), serial }
    }
}

/// A serial that waits for its answer.
#[derive(Debug)]
pub(crate) struct Serial {
    serials: Arc<Serials>,
    serial: u64,
}

impl Serial {
    pub(crate) fn get(&self) -> u64 {
        self.serial
    }

    /// The id of a request under this serial. All answers below the oldest open serial have been received.
    pub(crate) fn request_id(&self, session: u64) -> RequestId {
        let inner = self.serials.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let acked_below = inner.open.first().copied().expect("this serial is open");
        RequestId { session, serial: self.serial, acked_below }
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.serials.inner.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acked_below_is_the_oldest_that_waits() {
        let serials = Arc::new(Serials::starting_at(1));
        let (first, second, third) = (serials.next(), serials.next(), serials.next());
        assert_eq!(third.request_id(9), RequestId { session: 9, serial: 3, acked_below: 1 });
        drop(second);
        assert_eq!(third.request_id(9).acked_below, 1);
        drop(first);
        assert_eq!(third.request_id(9).acked_below, 3);
        drop(third);
        assert_eq!(serials.next().request_id(9), RequestId { session: 9, serial: 4, acked_below: 4 });
    }
}
