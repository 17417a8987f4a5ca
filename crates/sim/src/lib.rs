//! The whole of the store under one seed: real nodes and real clients on a simulated network, clock and disk.
//!
//! The same seed gives the same trace, byte for byte. Reading order: [`plan`] (what a seed decides), [`world`] (the simulated
//! seam), [`hosts`] (what runs), [`run`] (the phases), [`invariants`] (what must hold, one file each), [`trace`].

pub mod hosts;
pub mod invariants;
mod panics;
pub mod plan;
#[cfg(feature = "planted")]
pub mod planted;
pub mod run;
pub mod trace;
pub mod world;

pub use panics::replay_command;
pub use plan::Plan;
pub use run::{Report, run, run_with};
