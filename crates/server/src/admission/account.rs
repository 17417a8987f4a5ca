//! Bytes that are held for clients: counted in all and for each connection, and refused beyond a limit. It holds none itself.
//!
//! Keeps true: what was counted is given back when its holder is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What each message may hold uncounted: keep-alives and most requests never come to a limit, nor pay for counting.
const FREE_BYTES: usize = 16 << 10;

/// A limit in all, and one for each connection.
#[derive(Debug)]
pub(super) struct Account {
    held: AtomicUsize,
    limit: usize,
    limit_of_connection: usize,
}

/// A limit that is reached, in bytes, and whose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TooMuch {
    OfConnection(usize),
    InAll(usize),
}

impl TooMuch {
    /// For people.
    pub(super) fn limit(self) -> String {
        match self {
            TooMuch::OfConnection(bytes) => format!("at most {bytes} bytes of a connection at once"),
            TooMuch::InAll(bytes) => format!("at most {bytes} bytes of a node at once"),
        }
    }
}

impl Account {
    pub(super) fn new(limit: usize, limit_of_connection: usize) -> Arc<Account> {
        Arc::new(Account { held: AtomicUsize::new(0), limit, limit_of_connection })
    }

    /// Something that will hold bytes, of a connection if it is known.
    pub(super) fn open(self: &Arc<Account>, connection: Option<Arc<AtomicUsize>>) -> Held {
        Held { account: Arc::clone(self), connection, bytes: 0 }
    }
}

/// What one request or answer holds.
#[derive(Debug)]
pub(super) struct Held {
    account: Arc<Account>,
    connection: Option<Arc<AtomicUsize>>,
    /// As counted.
    bytes: usize,
}

impl Held {
    /// Holds this many now, or as many as before.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), TooMuch> {
        let counted = bytes.saturating_sub(FREE_BYTES);
        if counted <= self.bytes {
            self.give_back(self.bytes - counted);
            return Ok(());
        }
        let more = counted - self.bytes;
        if let Some(connection) = &self.connection
            && !take(connection, more, self.account.limit_of_connection)
        {
            return Err(TooMuch::OfConnection(self.account.limit_of_connection));
        }
        if !take(&self.account.held, more, self.account.limit) {
            if let Some(connection) = &self.connection {
                connection.fetch_sub(more, Ordering::Relaxed);
            }
            return Err(TooMuch::InAll(self.account.limit));
        }
        self.bytes = counted;
        Ok(())
    }

    fn give_back(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.bytes -= bytes;
        self.account.held.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(connection) = &self.connection {
            connection.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

fn take(held: &AtomicUsize, more: usize, limit: usize) -> bool {
    held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held + more <= limit).then_some(held + more))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bounded_for_a_connection_and_in_all_and_given_back() {
        let account = Account::new(1_000, 600);
        let (one, two) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let open = |connection: &Arc<AtomicUsize>| account.open(Some(Arc::clone(connection)));
        let (mut a, mut b, mut c) = (open(&one), open(&one), open(&two));
        assert_eq!(a.set(FREE_BYTES + 400), Ok(()));
        assert_eq!(b.set(FREE_BYTES + 201), Err(TooMuch::OfConnection(600)));
        assert_eq!(b.set(FREE_BYTES + 200), Ok(()));
        assert_eq!(c.set(FREE_BYTES + 401), Err(TooMuch::InAll(1_000)));
        assert_eq!(two.load(Ordering::Relaxed), 0, "a refusal holds nothing");
        assert_eq!(a.set(0), Ok(()));
        assert_eq!(c.set(FREE_BYTES + 600), Ok(()));
        drop((a, b, c));
        assert_eq!(account.held.load(Ordering::Relaxed), 0);
        assert_eq!((one.load(Ordering::Relaxed), two.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn what_is_small_is_never_refused() {
        let account = Account::new(0, 0);
        let mut held = account.open(None);
        assert_eq!(held.set(FREE_BYTES), Ok(()));
        assert_eq!(held.set(FREE_BYTES + 1), Err(TooMuch::InAll(0)));
    }
}
