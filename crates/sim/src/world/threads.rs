//! Blocking work on the one thread of the simulation: it takes a little simulated time, and then all of it happens at once.

use std::time::Duration;

use palisade_world::{Random, SeededRandom, Threads};

use super::Gate;

/// Blocking work takes up to this long: a sync and a half.
const LONGEST: Duration = Duration::from_millis(4);

/// The blocking threads of one process.
pub(super) struct SimThreads {
    gate: Gate,
    random: SeededRandom,
}

impl SimThreads {
    pub(super) fn new(gate: Gate, random: SeededRandom) -> SimThreads {
        SimThreads { gate, random }
    }
}

impl Threads for SimThreads {
    #[allow(clippy::disallowed_methods)] // the simulation's side of the door
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        let takes = Duration::from_nanos(self.random.next_u64() % LONGEST.as_nanos() as u64);
        let gate = self.gate.clone();
        // Not ended with whoever waits: only with the process.
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            gate.opened().await;
            work();
        });
    }
}
