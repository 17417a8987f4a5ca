//! The hub: one owner of all that a node knows of liveness. While the node does not lead the store it knows nothing.

use std::time::Duration;

use crate::leading::{Leading, Numbers};
use crate::{CloseReason, Effect, Event, Timings};

/// Decides who lives and what expires, on the store leader.
#[derive(Debug)]
pub struct Liveness {
    timings: Timings,
    /// Survives leaderships, so that no answer to an earlier one is taken for an answer to this one.
    numbers: Numbers,
    /// `None` while this node does not lead the store.
    leading: Option<Leading>,
}

impl Liveness {
    /// One that does not lead.
    pub fn new(timings: Timings) -> Liveness {
        Liveness { timings, numbers: Numbers::default(), leading: None }
    }

    /// Takes in what happened. `now` never goes back. Effects are to be carried out in order; none of them waits for
    /// another.
    #[must_use]
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        match (event, &mut self.leading) {
            (Event::BecameStoreLeader { sessions }, _) => {
                self.lost(&mut effects);
                self.leading = Some(Leading::new(self.timings, self.numbers, sessions, now));
                effects.push(Effect::AcceptStreams);
            }
            (Event::LostStoreLeadership, _) => self.lost(&mut effects),
            (event, Some(leading)) => leading.on(event, now, &mut effects),
            // Late answers to a leadership that is over.
            (_, None) => {}
        }
        effects
    }

    /// When to send [`Event::Tick`] at the latest; `None`: never. A later tick is taken as a sign that the node stood still.
    pub fn wake_at(&self) -> Option<Duration> {
        self.leading.as_ref().map(Leading::wake_at)
    }

    /// Sessions that it knows: none while the node does not lead.
    pub fn session_count(&self) -> usize {
        self.leading.as_ref().map_or(0, Leading::session_count)
    }

    fn lost(&mut self, effects: &mut Vec<Effect>) {
        if let Some(leading) = self.leading.take() {
            self.numbers = leading.numbers();
            effects.push(Effect::CloseStreams { why: CloseReason::LostStoreLeadership });
        }
    }

    /// Panics if an invariant does not hold. Visits everything: for tests and simulation.
    pub fn check_invariants(&self) {
        if let Some(leading) = &self.leading {
            leading.check_invariants();
        }
    }
}
