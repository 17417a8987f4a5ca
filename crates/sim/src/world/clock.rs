//! A machine's clocks. The one that counts since its boot: the simulated time, a little too fast or too slow; it never goes
//! back, not even when its rate changes. And the one on the wall, which somebody may set.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use palisade_world::Clock;
use tokio::sync::watch;

use super::Gate;

/// 2026-01-01, so that stamps look like stamps.
pub(crate) const EPOCH_UNIX_MS: u64 = 1_767_225_600_000;

/// The clock of one machine; it outlives its processes. Clones are the same clock.
#[derive(Clone)]
pub(crate) struct SimClock {
    rate: watch::Sender<Rate>,
    /// What was added to the clock on the wall.
    set_by_ms: Arc<AtomicI64>,
    gate: Gate,
}

/// At the simulated time `since` the clock showed `showed`; from there on it gains `ppm` millionths.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rate {
    since: Duration,
    showed: Duration,
    ppm: i32,
}

impl Rate {
    fn shows(self, at: Duration) -> Duration {
        let passed = i128::try_from(at.saturating_sub(self.since).as_nanos()).unwrap_or(i128::MAX);
        self.showed + nanos(passed + passed * i128::from(self.ppm) / 1_000_000)
    }

    /// How long in simulated time the clock takes for a span of its own.
    fn takes(self, span: Duration) -> Duration {
        let span = i128::try_from(span.as_nanos()).unwrap_or(i128::MAX / 1_000_000);
        // Rounded up: a sleep must not end before its clock says so.
        nanos((span * 1_000_000).div_euclid(1_000_000 + i128::from(self.ppm)) + i128::from(self.ppm != 0))
    }
}

fn nanos(count: i128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

impl SimClock {
    pub(crate) fn new(gate: Gate) -> SimClock {
        SimClock { rate: watch::Sender::default(), set_by_ms: Arc::default(), gate }
    }

    /// From the simulated time `at` on the clock gains so many millionths.
    pub(crate) fn set_rate(&self, at: Duration, ppm: i32) {
        self.rate.send_modify(|rate| *rate = Rate { since: at, showed: rate.shows(at), ppm });
    }

    /// Somebody sets the clock on the wall.
    pub(crate) fn jump(&self, ms: i64) {
        self.set_by_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Tells of every change of the rate: what was said of the future in simulated time is then to be said again.
    pub(crate) fn rates(&self) -> watch::Receiver<Rate> {
        self.rate.subscribe()
    }

    /// The simulated time at which this clock will show `reading`, if its rate stays; now if it has passed.
    pub(crate) fn simulated(&self, reading: Duration) -> Duration {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let rate = *self.rate.borrow();
        now + rate.takes(reading.saturating_sub(rate.shows(now)))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        self.rate.borrow().shows(turmoil::sim_elapsed().unwrap_or_default())
    }

    fn unix_ms(&self) -> u64 {
        let since_boot = u64::try_from(self.now().as_millis()).unwrap_or(0);
        (EPOCH_UNIX_MS + since_boot).saturating_add_signed(self.set_by_ms.load(Ordering::Relaxed))
    }

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (clock, until) = (self.clone(), self.now() + span);
        let mut takes = self.rate.borrow().takes(span);
        Box::pin(async move {
            loop {
                tokio::time::sleep(takes).await;
                // A rate that changed meanwhile must not end it early.
                let left = until.saturating_sub(clock.now());
                if left.is_zero() {
                    break;
                }
                takes = clock.rate.borrow().takes(left);
            }
            clock.gate.opened().await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_on_from_where_it_was() {
        let clock = SimClock::new(Gate::default());
        let shows = |at: u64| clock.rate.borrow().shows(Duration::from_secs(at));
        clock.set_rate(Duration::from_secs(10), 4_000);
        assert_eq!(shows(10), Duration::from_secs(10));
        assert_eq!(shows(20), Duration::from_millis(20_040));
        clock.set_rate(Duration::from_secs(20), -4_000);
        assert_eq!(shows(30), Duration::from_secs(30));
    }

    #[test]
    fn setting_the_clock_on_the_wall_moves_no_other() {
        let clock = SimClock::new(Gate::default());
        let (now, unix_ms) = (clock.now(), clock.unix_ms());
        clock.jump(-5_000);
        assert_eq!((clock.now(), clock.unix_ms()), (now, unix_ms - 5_000));
    }

    #[test]
    fn a_sleep_ends_when_its_clock_says_so() {
        for ppm in [-4_000, -1, 0, 1, 3_999] {
            let rate = Rate { since: Duration::ZERO, showed: Duration::ZERO, ppm };
            for span in [1, 999, 1_000_000, 123_456_789].map(Duration::from_nanos) {
                assert!(rate.shows(rate.takes(span)) >= span, "{ppm} {span:?}");
                assert!(rate.takes(span) <= span + span / 200 + Duration::from_nanos(2), "{ppm} {span:?}");
            }
        }
    }
}
