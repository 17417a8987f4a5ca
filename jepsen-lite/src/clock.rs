//! The harness's one clock: nanoseconds since the run began. All times of a history are of this clock and of no other.

use std::time::Instant;

/// A monotonic clock that starts at 0 with the run. Copies go on together.
#[derive(Clone, Copy, Debug)]
pub struct RunClock(Instant);

impl RunClock {
    /// The run begins now.
    pub fn start() -> RunClock {
        RunClock(Instant::now())
    }

    /// Nanoseconds since the run began.
    pub fn now_ns(&self) -> u64 {
        self.at(Instant::now())
    }

    /// The same for a moment that was noted before, such as when a keep-alive was sent; 0 for one before the run.
    pub fn at(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.0).as_nanos()).unwrap_or(u64::MAX)
    }
}
