//! The storage contract, on the real engine and on the simulated one.

// The lint's own exception for tests does not reach helper functions.
#![allow(clippy::unwrap_used)]

mod damage;
mod failed_sync;
mod folder;
mod full_disk;
mod kill;
mod kill_points;
mod loop_disk;
mod model;
#[cfg(feature = "planted")]
mod planted;
mod power_cut;
mod reopen;
mod sim;
mod sizes;
mod snapshots;
mod support;
mod synced;
mod writer;
