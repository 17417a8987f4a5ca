//! JobManager and TaskExecutor on top of rpc and client.

pub mod dataflow;
pub mod job;
pub mod jobmaster;
pub mod storage;
