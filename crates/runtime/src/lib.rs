//! JobManager and TaskExecutor on top of rpc and client.
