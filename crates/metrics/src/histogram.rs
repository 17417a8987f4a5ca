//! How long things took: counted in buckets that are the same for all, so that they can be added up and compared.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in nanoseconds, three to a decade: from a hand-over between two threads to a request that is given up.
const BOUNDS: [u64; 19] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Spans of time, counted in buckets. One observation is a search among nineteen numbers and two relaxed additions.
#[derive(Debug)]
pub struct Histogram {
    /// Each counts what is above the bound before it and at or below its own; the last, what is above all.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Nanoseconds of all: 584 years of them fit.
    sum: AtomicU64,
}

impl Histogram {
    /// Nothing was observed yet.
    pub const fn new() -> Histogram {
        Histogram { buckets: [const { AtomicU64::new(0) }; BOUNDS.len() + 1], sum: AtomicU64::new(0) }
    }

    /// It took so long.
    pub fn observe(&self, span: Duration) {
        self.observe_many(span, 1);
    }

    /// So many took so long, each.
    pub fn observe_many(&self, span: Duration, many: u64) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let at = BOUNDS.partition_point(|bound| *bound < nanos);
        self.buckets[at].fetch_add(many, Ordering::Relaxed);
        self.sum.fetch_add(nanos.saturating_mul(many), Ordering::Relaxed);
    }

    /// How many were observed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Seconds of all.
    #[allow(clippy::cast_precision_loss)] // of a sum of seconds, beyond what anybody reads
    pub fn seconds(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Upper bound in seconds, and how many took that long or less; the last bound is infinite. One look: the counts agree
    /// with each other.
    #[allow(clippy::cast_precision_loss)] // the bounds are small
    pub(crate) fn cumulated(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.iter().map(|nanos| *nanos as f64 / 1e9).chain([f64::INFINITY]);
        let mut below = 0;
        bounds
            .zip(&self.buckets)
            .map(|(bound, bucket)| {
                below += bucket.load(Ordering::Relaxed);
                (bound, below)
            })
            .collect()
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_and_a_span_on_a_bound_is_at_or_below_it() {
        assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
        let histogram = Histogram::new();
        histogram.observe(Duration::from_micros(10));
        histogram.observe(Duration::from_nanos(10_001));
        histogram.observe(Duration::from_secs(60));
        let found = histogram.cumulated();
        assert_eq!((found[0], found[1]), ((1e-5, 1), (2.5e-5, 2)));
        assert_eq!(found.last(), Some(&(f64::INFINITY, 3)));
        assert_eq!(found[BOUNDS.len() - 1].1, 2, "a minute is above all bounds");
        assert!((histogram.seconds() - 60.000_020_001).abs() < 1e-9);
        assert_eq!(histogram.count(), 3);
    }

    #[test]
    fn many_of_one_length_are_counted_at_once() {
        let histogram = Histogram::new();
        histogram.observe_many(Duration::from_millis(2), 500);
        assert_eq!(histogram.count(), 500);
        assert!((histogram.seconds() - 1.0).abs() < 1e-9);
    }
}
