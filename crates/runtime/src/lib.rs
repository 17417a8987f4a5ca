//! JobManager and TaskExecutor: the first user of the coordination service and of the RPC layer, and their reference.
//!
//! A JobManager that leads an election runs jobs; TaskExecutors run their tasks. Kill any of them at any moment: the next
//! leader takes the job up from its last completed checkpoint, and the result is exact.
//!
//! # Reading order
//! - [`dataflow`]: what a job does with its input, pure: words, splits, partitions, barriers, counts.
//! - [`job`]: what a job is, from its description to its result.
//! - [`jobmaster`]: [`jobmaster::checkpoints`] and [`jobmaster::scheduler`] decide, pure; the JobMaster carries out.
//! - [`resourcemanager`]: [`resourcemanager::slot_manager`] books slots, pure; the ResourceManager carries out.
//! - [`storage`]: payloads in a folder. [`ha`]: pointers to them in the store, every write fenced.
//! - [`jobmanager`]: the process that campaigns, and its components while it leads.
//! - [`taskexecutor`]: the process with slots and tasks, and the exchange of records between them.
//! - [`jobclient`]: submits, waits over failovers, fetches results.
//!
//! # What is kept true
//! Nothing that a replaced leader does has an effect: its calls are refused by token, its pointers by the store, its payloads
//! lie below its own token, its records by the attempt. A checkpoint counts only when its pointer is *known* to be stored.
//!
//! # What is deliberately not here
//! Elections, sessions and tokens (the client crate), message fencing (the rpc crate), any way to switch fencing off.

mod convert;
pub mod dataflow;
pub mod ha;
mod introspection;
pub mod job;
pub mod jobclient;
pub mod jobmanager;
pub mod jobmaster;
mod observing;
pub mod resourcemanager;
pub mod storage;
pub mod taskexecutor;

pub use job::{Input, JobId, JobKind, JobSpec, JobState, JobStatus};
pub use jobclient::{CounterValue, JobClient, JobClientError};
pub use jobmanager::{Heartbeats, JobManager, JobManagerConfig};
pub use observing::{JobManagerFigures, JobManagerObserver, TaskExecutorFigures, TaskExecutorObserver};
pub use taskexecutor::{TaskExecutor, TaskExecutorConfig};

/// Generated from `proto/palisade/runtime/v1`.
// Documented in the .proto files, which generate this; not every field has a sentence.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/palisade.runtime.v1.rs"));
}
