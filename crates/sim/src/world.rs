//! The simulated seam: turmoil's sockets, the simulation's clock, randomness from the seed. Everything that a process can
//! notice of the world comes through here, so here it can be paused (`gate`) and its clock be wrong (`clock`).

pub(crate) mod clock;
mod files;
pub(crate) mod gate;
mod net;
mod threads;
mod traffic;

use std::sync::Arc;

use palisade_world::{SeededRandom, World};

pub(crate) use clock::SimClock;
pub(crate) use files::{SharedFiles, SimFiles};
pub(crate) use gate::Gate;
pub use traffic::Traffic;

/// A world for one process. `seed` should differ between processes and between starts of a process.
///
/// `behind`: the only node that it reaches, if it does not reach all.
pub(crate) fn simulated(
    seed: u64,
    clock: &SimClock,
    gate: &Gate,
    (traffic, behind): (&Traffic, Option<usize>),
    files: SimFiles,
) -> World {
    World::new(
        Arc::new(clock.clone()),
        Arc::new(SeededRandom::new(seed)),
        Arc::new(net::SimNet::new(gate.clone(), traffic.clone(), behind)),
    )
    // Threads draw from a source of their own: how often they do must not shift what everybody else draws.
    .with_threads(Arc::new(threads::SimThreads::new(gate.clone(), SeededRandom::new(!seed))))
    .with_files(Arc::new(files))
}
