//! Whole nodes in one process, driven through their public API with generated clients and nothing else.

// Helpers of tests are not tests to clippy; what fails here fails the test.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod client_keys;
mod cluster;
mod failover;
mod formation;
mod full_disk;
mod handover;
mod observe;
#[cfg(feature = "planted")]
mod planted;
mod session;
mod session_end;
mod watch;
mod writes;
