//! Tests of the runtime as its users see it.

mod dataflow;
mod scheduler;
