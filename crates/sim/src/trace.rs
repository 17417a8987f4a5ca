//! What happened, as lines of text with the simulated time. The same seed gives the same bytes.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Lines of text, appended by every host of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Arc<Mutex<String>>);

impl Trace {
    /// Appends a line, stamped with the simulated time.
    pub(crate) fn line(&self, who: &str, what: impl std::fmt::Display) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.line_at(at, who, what);
    }

    /// Appends a line from outside of any host.
    pub(crate) fn line_at(&self, at: Duration, who: &str, what: impl std::fmt::Display) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(text, "{:>12.6} {who:<12} {what}", at.as_secs_f64());
    }

    /// Everything so far.
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A fingerprint of everything so far (FNV-1a), to compare runs at a glance.
    pub(crate) fn fingerprint(&self) -> u64 {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}
