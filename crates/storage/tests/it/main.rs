//! The storage contract, on the real engine and on the simulated one.

mod damage;
mod folder;
mod full_disk;
mod guard;
mod kill;
mod model;
#[cfg(feature = "planted")]
mod planted;
mod power_loss;
mod reopen;
mod sim;
mod sizes;
mod snapshots;
mod support;
mod synced;
mod writer;
