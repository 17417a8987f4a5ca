//! Tests of the runtime as its users see it.

mod cluster;
mod dataflow;
mod failover;
mod scheduler;
