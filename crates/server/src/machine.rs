//! The state machine as the replica drives it: bytes of the log in, outcomes out, events to the hub.
//!
//! It decides nothing (that is coord-core's) and never waits: the state stands behind a lock that is held for short
//! synchronous steps only, never across an await, and nothing is published under it.

use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use palisade_coord_core::{Frozen, Op, Outcome, State, apply, level};
use palisade_fence::ClusterId;
use palisade_planted::{self as planted, Bug};
use palisade_replica::{Cluster, Level, Machine, MachineError, Member};
use palisade_wire::{log, state};
use palisade_world::World;
use tokio::sync::watch;

use crate::audit::Audit;
use crate::hub::{Applied, Hub};
use crate::metrics::NodeMetrics;

/// The replicated state of one node.
pub struct CoordMachine {
    state: Arc<RwLock<State>>,
    hub: Arc<Hub>,
    /// The cluster's name as soon as it is known here. Set once; a restart or a snapshot sets the same again.
    founded: watch::Sender<Option<ClusterId>>,
    /// The state's generation, for those who must not wait for the state.
    generation: AtomicU32,
    /// The highest level that this program knows.
    known_level: u32,
    /// The state's, likewise.
    level: Arc<AtomicU32>,
    /// Looks on, in tests.
    audit: Option<Arc<dyn Audit>>,
    metrics: Arc<NodeMetrics>,
    /// For how long applying takes, and for nothing else.
    world: World,
}

impl CoordMachine {
    /// An empty state that publishes to a hub of its own.
    pub fn new(audit: Option<Arc<dyn Audit>>, world: World) -> CoordMachine {
        CoordMachine::knowing(level::KNOWN, audit, world)
    }

    /// As a program of another version would be, for tests.
    pub(crate) fn knowing(known_level: u32, audit: Option<Arc<dyn Audit>>, world: World) -> CoordMachine {
        let (founded, metrics) = (watch::Sender::new(None), NodeMetrics::new());
        let (state, hub) = (Arc::new(RwLock::new(State::new())), Hub::counting(Arc::clone(&metrics)));
        let (generation, level) = (AtomicU32::new(0), Arc::new(AtomicU32::new(level::FIRST)));
        CoordMachine { state, hub, founded, generation, known_level, level, audit, metrics, world }
    }

    /// Looks at what this node has applied. `look` must be short and must not wait: applying waits for it.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().expect("applying does not panic, or the node has stopped"))
    }

    /// The cluster's name; `None` until its first command is applied here.
    pub fn founded(&self) -> watch::Receiver<Option<ClusterId>> {
        self.founded.subscribe()
    }

    /// The level of the cluster, as it is and will be.
    pub(crate) fn level_now(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.level)
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
    fn note(&self, (cluster, generation, level): (Option<ClusterId>, u32, u32)) {
        self.generation.store(generation, Ordering::Release);
        self.level.store(level, Ordering::Release);
        self.founded.send_if_modified(|known| {
            let news = cluster.is_some() && *known != cluster;
            if news {
                *known = cluster;
            }
            news
        });
    }
}

/// Of the state, for those who must not wait for it.
fn known(state: &State) -> (Option<ClusterId>, u32, u32) {
    (state.cluster(), state.generation(), state.level())
}

/// A program that is too old for what it finds: it would pass over what it does not know, and the nodes would differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "downgrade refused: this data was written at level {at}, this program knows levels up to {known}; start a newer one"
)]
pub(crate) struct Downgrade {
    pub(crate) at: u32,
    pub(crate) known: u32,
}

/// The state at one moment, on its way into a snapshot.
pub struct FrozenState {
    state: Frozen,
    /// The planted bug's: where it finds a later one.
    later: Option<Arc<RwLock<State>>>,
}

impl FrozenState {
    /// A state as it is.
    pub(crate) fn of(state: &State) -> FrozenState {
        FrozenState { state: state.freeze(), later: None }
    }
}

impl palisade_replica::Frozen for FrozenState {
    fn write(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match &self.later {
            None => state::write(&self.state, take),
            Some(later) => {
                let later = later.read().expect("applying does not panic").freeze();
                state::write(&self.state.with_keys_of(&later), take)
            }
        }
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
        let raised = commands.iter().filter_map(|command| match command.op {
            Op::RaiseLevel { level } => Some(level),
            _ => None,
        });
        if let Some(at) = raised.max().filter(|at| *at > self.known_level) {
            panic!("{}", Downgrade { at, known: self.known_level });
        }
        let now = {
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
                    self.metrics.events(index, &outcome.events);
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
            known(&state)
        };
        self.metrics.applied(index, &outcomes, self.world.now().saturating_sub(began));
        self.note(now);
        for applied in published {
            self.hub.publish(applied);
        }
        outcomes
    }

    type Frozen = FrozenState;

    fn freeze(&self) -> FrozenState {
        let later = planted::is(Bug::SnapshotTorn).then(|| Arc::clone(&self.state));
        FrozenState { state: self.read(State::freeze), later }
    }

    fn restore(&self, pieces: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), MachineError> {
        let bad = |error: &dyn Display| MachineError::new(error.to_string());
        let mut reading = state::Reading::new();
        for piece in pieces {
            reading.take(&piece.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
        }
        let restored = reading.finish().map_err(|error| bad(&error))?;
        if restored.level() > self.known_level {
            return Err(bad(&Downgrade { at: restored.level(), known: self.known_level }));
        }
        let now = known(&restored);
        if let Some(audit) = &self.audit {
            audit.restored(&restored);
        }
        let before = {
            let mut state = self.state.write().expect("applying does not panic, or the node has stopped");
            std::mem::replace(&mut *state, restored)
        };
        // A large state takes a while to go; nobody waits for it here.
        drop(before);
        self.note(now);
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

    fn level(&self) -> Level {
        Level { known: self.known_level, at: self.level.load(Ordering::Acquire) }
    }

    fn cluster(&self) -> Cluster {
        let id = self.founded.borrow().map_or(0, |cluster| cluster.0);
        Cluster { id, generation: self.generation.load(Ordering::Acquire) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use palisade_coord_core::keys::op::Put;
    use palisade_coord_core::{Command, KeyOp};

    use super::*;

    fn pieces_of(frozen: &FrozenState) -> impl Iterator<Item = io::Result<Bytes>> + use<> {
        let mut pieces = Vec::new();
        let write = palisade_replica::Frozen::write(frozen, &mut |piece| {
            pieces.push(Ok(Bytes::copy_from_slice(piece)));
            Ok(())
        });
        write.expect("a vector takes everything");
        pieces.into_iter()
    }

    fn put(number: u64) -> Bytes {
        let key = number.to_be_bytes().to_vec();
        log::encode_batch(&[Command::new(number, Op::Keys(KeyOp::Put(Put::new(key, [7; 1_000]))))])
    }

    /// What a node has after a snapshot is what the other had when it was taken, whatever was applied while it was written.
    fn a_snapshot_is_of_one_moment() {
        let machine = CoordMachine::new(None, World::real());
        for index in 0..1_000 {
            machine.apply(index, put(index));
        }
        let (frozen, expected) = (machine.freeze(), machine.read(State::clone));
        for index in 1_000..1_500 {
            machine.apply(index, put(index * 7 % 1_200));
        }
        let other = CoordMachine::new(None, World::real());
        let restored = other.restore(&mut pieces_of(&frozen));
        assert!(restored.is_ok(), "a torn snapshot: {restored:?}");
        assert_eq!(other.read(State::clone), expected);
    }

    #[test]
    fn what_is_applied_while_a_snapshot_is_written_is_not_in_it() {
        a_snapshot_is_of_one_moment();
    }

    #[cfg(feature = "planted")]
    #[test]
    fn the_planted_bug_that_tears_a_snapshot_is_caught() {
        let why = palisade_planted::caught(Bug::SnapshotTorn, a_snapshot_is_of_one_moment).expect("it must be caught");
        assert!(why.contains("a torn snapshot") && why.contains("in the future"), "{why}");
    }

    fn a_snapshot_cuts_observers_off() {
        let machine = CoordMachine::new(None, World::real());
        let mut observer = machine.hub().observe("e").expect("there is room");
        machine.restore(&mut pieces_of(&machine.freeze())).expect("it is sound");
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
