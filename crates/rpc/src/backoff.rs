//! The pause before another try: it doubles up to a largest one, and is jittered, so that many who lost the same leader do not
//! come back at the same moment. It sleeps not and knows not what is tried.

use std::time::Duration;

use palisade_world::World;

/// Pauses that grow.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Default for Backoff {
    /// From 10 ms to 1 s.
    fn default() -> Backoff {
        Backoff::new(Duration::from_millis(10), Duration::from_secs(1))
    }
}

impl Backoff {
    /// Pauses from `first` to `most`; jitter makes the first at most half as long again, and the largest not longer than `most`.
    pub fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most, next: first }
    }

    /// The next pause.
    pub fn pause(&mut self, world: &World) -> Duration {
        // With its jitter it is `most` at most.
        let base = self.next.min(self.most * 2 / 3);
        self.next = (self.next * 2).min(self.most);
        base + world.jitter(base / 2)
    }

    /// It went well: the next pause is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}
