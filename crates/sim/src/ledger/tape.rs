//! Every message that a leader sent, for whoever repeats them.

use std::sync::{Arc, Mutex, PoisonError};

use super::Message;

/// All messages of a run in the order in which they were sent. Clones are the same tape.
#[derive(Clone, Default)]
pub(crate) struct Tape(Arc<Mutex<Vec<Message>>>);

impl Tape {
    /// Adds one.
    pub(crate) fn record(&self, message: Message) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }

    /// One of the last `of` messages, the one that `random` falls on; `None` while there are none.
    pub(crate) fn pick(&self, of: usize, random: u64) -> Option<Message> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = &all[all.len().saturating_sub(of)..];
        let at = usize::try_from(random).unwrap_or(usize::MAX).checked_rem(last.len())?;
        Some(last[at])
    }
}
