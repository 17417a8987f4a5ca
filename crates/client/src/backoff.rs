//! How long to wait before trying again.

use std::time::Duration;

use palisade_world::World;

/// The first pause: about what a store leader needs to answer a new question.
const FIRST: Duration = Duration::from_millis(10);

/// While looking for the store leader: an election takes a few hundred milliseconds, and every one of them is felt.
pub(crate) const WHILE_SEARCHING: Duration = Duration::from_millis(100);

/// Otherwise: a cluster that is down for long must not be met by a storm when it is back.
pub(crate) const AT_MOST: Duration = Duration::from_secs(1);

/// Doubling pauses with jitter, so that clients that failed together do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    cap: Duration,
}

impl Backoff {
    pub(crate) fn up_to(cap: Duration) -> Backoff {
        Backoff { next: FIRST, cap }
    }

    /// The next pause: between half of it and all of it.
    pub(crate) fn pause(&mut self, world: &World) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(self.cap);
        half + world.jitter(half)
    }

    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use palisade_world::{BootClock, SeededRandom, TcpNet};

    use super::*;

    #[test]
    fn it_doubles_up_to_its_cap() {
        let world = World::new(Arc::new(BootClock), Arc::new(SeededRandom::new(1)), Arc::new(TcpNet));
        let mut backoff = Backoff::up_to(WHILE_SEARCHING);
        let most = [10, 20, 40, 80, 100, 100].map(Duration::from_millis);
        for most in most {
            let pause = backoff.pause(&world);
            assert!(pause >= most / 2 && pause <= most, "{pause:?} for {most:?}");
        }
        backoff.reset();
        assert!(backoff.pause(&world) <= FIRST);
    }
}
