//! What the whole must keep true, tried from outside: the shape of the workspace, and real processes.

#![allow(clippy::unwrap_used)] // A test that panics has failed, in its helpers as well.
#![allow(clippy::disallowed_methods)] // These tests watch real processes from outside; there is no seam to go through.

mod backup;
mod bad_input;
mod bench;
mod compose;
mod config_file;
mod demo;
mod durability;
mod elect_run;
mod election;
mod example;
mod failover;
mod flood;
mod golden;
mod harness;
mod keys;
mod levels;
mod log_fields;
mod members;
mod metrics;
mod operating;
mod planted;
mod prometheus;
mod python;
mod reflection;
mod skip;
mod story;
mod tidy;
