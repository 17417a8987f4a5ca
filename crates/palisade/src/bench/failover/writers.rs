//! Callers that write without a pause, and the longest time in which none of them had an acknowledgement.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use palisade_client::{Client, PutOptions};
use palisade_world::{Task, World};

use super::LIMIT;
use crate::bench::nodes::Nodes;
use crate::exit::Failure;

/// Callers: so many that one that waits for a node that is gone does not count as a gap of the store.
const WRITERS: usize = 4;

/// The longest that a caller waits for one answer: a node that stands still answers nothing.
const PATIENCE: Duration = Duration::from_millis(100);

/// Without a gap for this long, the last one is over.
const CALM: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
struct Acks {
    last: Duration,
    longest: Duration,
}

/// Writers that end with this.
pub(super) struct Writers {
    acks: Arc<Mutex<Acks>>,
    _tasks: Vec<Task<()>>,
    world: World,
}

impl Writers {
    pub(super) fn start(nodes: &Nodes, world: &World) -> Result<Writers, Failure> {
        let acks = Arc::new(Mutex::new(Acks { last: world.now(), longest: Duration::ZERO }));
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let client = nodes.client_with(PATIENCE)?;
            tasks.push(world.spawn("bench-writer", write(writer, client, Arc::clone(&acks), world.clone())));
        }
        Ok(Writers { acks, _tasks: tasks, world: world.clone() })
    }

    /// Forgets the gaps so far, when writes go well.
    pub(super) async fn calm(&self) -> Result<(), Failure> {
        let until = self.world.now() + LIMIT;
        let mut calm_since = self.world.now();
        self.reset();
        while self.world.now() < until {
            self.world.sleep(PATIENCE / 10).await;
            let Acks { last, longest } = self.acks();
            if longest.max(self.world.now() - last) > PATIENCE {
                calm_since = self.world.now();
                self.reset();
            } else if self.world.now() - calm_since > CALM {
                self.reset();
                return Ok(());
            }
        }
        Err(Failure::failed(format!("writes did not go well again within {LIMIT:?}")))
    }

    /// The longest gap since the last [`Writers::calm`], once writes have gone on for a while after `at`.
    pub(super) async fn longest_gap(&self, at: Duration) -> Result<Duration, Failure> {
        let until = self.world.now() + LIMIT;
        let mut went_on_at = None;
        while self.world.now() < until {
            self.world.sleep(PATIENCE / 10).await;
            let Acks { last, longest } = self.acks();
            if last > at && went_on_at.is_none() {
                went_on_at = Some(last);
            }
            // A write that was on its way may be acknowledged after it: the gap may yet come.
            if went_on_at.is_some_and(|since| last > since + 2 * CALM) {
                return Ok(longest);
            }
        }
        Err(Failure::failed(format!("no write was acknowledged within {LIMIT:?}")))
    }

    fn acks(&self) -> Acks {
        *self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self) {
        let mut acks = self.acks.lock().unwrap_or_else(PoisonError::into_inner);
        acks.longest = Duration::ZERO;
    }
}

async fn write(writer: usize, client: Client, acks: Arc<Mutex<Acks>>, world: World) {
    for serial in 0u64.. {
        match client.put(PutOptions::new(format!("bench/failover/{writer}"), serial.to_string())).await {
            Ok(_) => {
                let now = world.now();
                let mut acks = acks.lock().unwrap_or_else(PoisonError::into_inner);
                acks.longest = acks.longest.max(now - acks.last);
                acks.last = now;
            }
            // An unknown outcome is no acknowledgement: the gap goes on. One that comes at once must not spin.
            Err(_) => world.sleep(Duration::from_millis(1)).await,
        }
    }
}
