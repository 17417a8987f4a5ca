//! What a process counted, by name and labels. Only ever goes up; starts at 0 with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counters. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Counters {
    /// Counts.
    pub(crate) fn add(&self, name: &'static str, by: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += by;
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().map(|(name, value)| (*name, *value)).collect()
    }
}
