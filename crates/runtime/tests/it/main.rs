//! Tests of the runtime as its users see it.

#![allow(clippy::unwrap_used)] // helpers of tests too: a failure here is the test's

mod cluster;
mod dataflow;
mod failover;
mod fencing;
#[cfg(feature = "planted")]
mod planted;
mod real_store;
mod scheduler;
