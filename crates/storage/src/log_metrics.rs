//! What the log's writer counts while it works, and the clock that it is measured with. Nothing is decided by either.

use std::time::{Duration, Instant};

use palisade_metrics::{Counter, Gauge, Histogram};

/// See [`crate::LogEngine::metrics`].
#[derive(Debug, Default)]
pub struct LogMetrics {
    /// Writing one group of records, before its sync.
    pub write: Histogram,
    /// One `fdatasync`.
    pub sync: Histogram,
    /// Submits.
    pub submits: Counter,
    /// Bytes of them, as they are weighed for the queue.
    pub bytes: Counter,
    /// Bytes that wait for the writer.
    pub queue_bytes: Gauge,
    /// Submits that waited because the queue was full.
    pub waits: Counter,
}

impl LogMetrics {
    /// Something was given to the writer; so much waits now.
    pub(crate) fn submitted(&self, bytes: usize, waits: usize) {
        self.submits.inc();
        self.bytes.add(bytes as u64);
        self.queue_bytes.set(waits);
    }
}

/// How long the disk takes. The engine that is measured works on a real disk only, so this is the real clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[allow(clippy::disallowed_methods)] // for figures only; the simulated engine has no such
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub(crate) fn took(self) -> Duration {
        self.0.elapsed()
    }
}
