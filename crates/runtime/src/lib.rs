//! JobManager and TaskExecutor on top of rpc and client.

pub mod dataflow;
