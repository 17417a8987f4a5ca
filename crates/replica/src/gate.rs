//! The gate in front of votes and appends: closed until the server knows that this store belongs to the cluster, so that
//! a wiped node votes for nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Closed at first; once open, open for good. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Votes, appends and snapshots are refused. `Hello` is answered.
    pub fn closed() -> Gate {
        Gate(Arc::new(AtomicBool::new(false)))
    }

    /// This node belongs to the cluster: it may vote and follow.
    pub fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether this node may vote and follow.
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
