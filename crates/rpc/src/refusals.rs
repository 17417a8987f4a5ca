//! The refused tells of a gateway. A tell has no answer, but nothing vanishes silently: its refusal lands here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::RpcError;

/// Refusals kept for a reader that does not come; the oldest go first, the count stays exact. Enough for every tell that a
/// mailbox holds.
const KEPT: usize = 1024;

/// One tell that was not handled, or a break of the connection after which that is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The method's name; empty if the connection broke and it is not known which tells were lost with it.
    pub method: String,
    /// Why.
    pub error: RpcError,
}

/// The refused tells of one gateway and its clones.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Log>);

#[derive(Default)]
struct Log {
    total: AtomicU64,
    kept: Mutex<VecDeque<Refusal>>,
    arrived: Notify,
}

impl Refusals {
    /// How many there were in all.
    pub fn total(&self) -> u64 {
        self.0.total.load(Ordering::Acquire)
    }

    /// Takes the oldest that is kept.
    pub fn take(&self) -> Option<Refusal> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Waits for the next. Cancelling it loses nothing.
    pub async fn next(&self) -> Refusal {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(refusal) = self.take() {
                return refusal;
            }
            arrived.await;
        }
    }

    pub(crate) fn push(&self, refusal: Refusal) {
        {
            let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(refusal);
        }
        self.0.total.fetch_add(1, Ordering::AcqRel);
        self.0.arrived.notify_one();
    }
}

impl std::fmt::Debug for Refusals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Refusals({})", self.total())
    }
}
