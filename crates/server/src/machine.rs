//! The state machine as the replica drives it: bytes of the log in, outcomes out, events to the hub.
//!
//! It decides nothing (that is coord-core's) and never waits: the state stands behind a lock that is held for short
//! synchronous steps only, never across an await, and nothing is published under it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use palisade_coord_core::{Outcome, State, apply};
use palisade_fence::ClusterId;
use palisade_planted::{self as planted, Bug};
use palisade_replica::{Cluster, Machine, MachineError, Member};
use palisade_wire::{log, state};
use palisade_world::World;
use tokio::sync::watch;

use crate::audit::Audit;
use crate::hub::{Applied, Hub};
use crate::metrics::NodeMetrics;

/// The replicated state of one node.
pub struct CoordMachine {
    state: RwLock<State>,
    hub: Arc<Hub>,
    /// The cluster's name as soon as it is known here. Set once; a restart or a snapshot sets the same again.
    founded: watch::Sender<Option<ClusterId>>,
    /// The state's generation, for those who must not wait for the state.
    generation: AtomicU32,
    /// Looks on, in tests.
    audit: Option<Arc<dyn Audit>>,
    metrics: Arc<NodeMetrics>,
    /// For how long applying takes, and for nothing else.
    world: World,
}

impl CoordMachine {
    /// An empty state that publishes to a hub of its own.
    pub fn new(audit: Option<Arc<dyn Audit>>, world: World) -> CoordMachine {
        let (founded, metrics) = (watch::Sender::new(None), NodeMetrics::new());
        let (state, hub) = (RwLock::new(State::new()), Hub::counting(Arc::clone(&metrics)));
        CoordMachine { state, hub, founded, generation: AtomicU32::new(0), audit, metrics, world }
    }

    /// Looks at what this node has applied. `look` must be short and must not wait: applying waits for it.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().expect("applying does not panic, or the node has stopped"))
    }

    /// The cluster's name; `None` until its first command is applied here.
    pub fn founded(&self) -> watch::Receiver<Option<ClusterId>> {
        self.founded.subscribe()
    }

    /// What this node counts.
    pub(crate) fn metrics(&self) -> &Arc<NodeMetrics> {
        &self.metrics
    }

    /// Where this node's events go.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The generation is kept first: whoever sees the name sees the generation that belongs to it.
    fn note(&self, cluster: Option<ClusterId>, generation: u32) {
        self.generation.store(generation, Ordering::Release);
        self.founded.send_if_modified(|known| {
            let news = cluster.is_some() && *known != cluster;
            if news {
                *known = cluster;
            }
            news
        });
    }
}

impl Machine for CoordMachine {
    /// One for each command of the entry, in order; their events have gone to the hub.
    type Reply = Vec<Outcome>;

    fn apply(&self, index: u64, entry: Bytes) -> Vec<Outcome> {
        let began = self.world.now();
        // Our own store leader wrote these bytes and a checksum guarded them. Skipping an entry would make replicas
        // differ, so a node that cannot read one must stop.
        let commands =
            log::decode_batch(&entry).unwrap_or_else(|error| panic!("log entry {index} cannot be read: {error}"));
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut published = Vec::new();
        let (cluster, generation) = {
            let mut state = self.state.write().expect("applying does not panic, or the node has stopped");
            for command in &commands {
                let mut outcome = apply(&mut state, command);
                if cfg!(debug_assertions) {
                    state.check_invariants();
                }
                if let Some(audit) = &self.audit {
                    audit.applied(command, &outcome, &state);
                }
                if !outcome.events.is_empty() {
                    self.metrics.events(&outcome.events);
                    published.push(Applied {
                        cluster: state.cluster().unwrap_or_default(),
                        generation: state.generation(),
                        seq: outcome.seq,
                        revision: outcome.revision,
                        events: std::mem::take(&mut outcome.events),
                    });
                }
                outcomes.push(outcome);
            }
            (state.cluster(), state.generation())
        };
        self.metrics.applied(&outcomes, self.world.now().saturating_sub(began));
        self.note(cluster, generation);
        for applied in published {
            self.hub.publish(applied);
        }
        outcomes
    }

    fn snapshot(&self) -> Bytes {
        self.read(state::encode)
    }

    fn restore(&self, data: Bytes) -> Result<(), MachineError> {
        let restored = state::decode(&data).map_err(|error| MachineError::new(error.to_string()))?;
        let (cluster, generation) = (restored.cluster(), restored.generation());
        if let Some(audit) = &self.audit {
            audit.restored(&restored);
        }
        *self.state.write().expect("applying does not panic, or the node has stopped") = restored;
        self.note(cluster, generation);
        if !planted::is(Bug::EventsLostAtSnapshot) {
            self.hub.cut_off();
        }
        Ok(())
    }

    fn members(&self, index: u64, members: &[Member]) {
        if let Some(audit) = &self.audit {
            audit.members(index, members);
        }
    }

    fn cluster(&self) -> Cluster {
        let id = self.founded.borrow().map_or(0, |cluster| cluster.0);
        Cluster { id, generation: self.generation.load(Ordering::Acquire) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn a_snapshot_cuts_observers_off() {
        let machine = CoordMachine::new(None, World::real());
        let mut observer = machine.hub().observe("e").expect("there is room");
        machine.restore(state::encode(&State::new())).expect("it is sound");
        assert!(observer.next().now_or_never().is_some_and(|next| next.is_none()), "it waits for what it has missed");
    }

    #[test]
    fn whoever_observes_while_a_snapshot_is_installed_is_cut_off() {
        a_snapshot_cuts_observers_off();
    }

    #[cfg(feature = "planted")]
    #[test]
    fn the_planted_bug_that_loses_events_at_a_snapshot_is_caught() {
        let why = palisade_planted::caught(Bug::EventsLostAtSnapshot, a_snapshot_cuts_observers_off);
        assert_eq!(why.as_deref(), Some("it waits for what it has missed"));
    }
}
