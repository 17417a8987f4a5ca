//! Whole nodes in one process, driven through their public API with generated clients and nothing else.

// Helpers of tests are not tests to clippy; what fails here fails the test.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod client_keys;
mod cluster;
mod failover;
mod formation;
mod forwarding;
mod full_disk;
mod handover;
mod health;
mod levels;
mod net;
mod observe;
mod out_of_reach;
mod pipeline;
#[cfg(feature = "planted")]
mod planted;
mod relays;
mod session;
mod session_end;
mod watch;
mod without_frames;
mod writes;
