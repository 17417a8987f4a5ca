//! The whole under one seed: real nodes, clients and endpoints on a simulated network, clock and disk.
//!
//! The same seed gives the same trace, byte for byte. Reading order: [`plan`] (what a seed decides), [`world`] (the simulated
//! seam), [`ledger`] (the fenced service that is called), [`hosts`] (what runs, one file for each role), [`facts`] (what they see), [`invariants`] (what must hold, one file
//! each), `nemesis` (carries out the faults), [`run()`] (the phases), [`summary`] (many runs), [`shrink()`] (a failing plan made
//! smaller), [`found`] (plans that once found something).

pub mod facts;
pub mod found;
pub mod hosts;
pub mod invariants;
pub mod ledger;
mod nemesis;
mod panics;
pub mod phase;
pub mod plan;
#[cfg(feature = "planted")]
pub mod planted;
mod run;
mod shrink;
pub mod summary;
mod trace;
pub mod witness;
pub mod world;

pub use plan::Plan;
pub use run::{Linger, Report, run, run_with};
pub use shrink::shrink;
pub use summary::Summary;
