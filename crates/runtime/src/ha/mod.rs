//! What survives a leader: job graphs, checkpoint pointers, results, in the coordination store, every write fenced.

mod job_store;
mod keys;
mod store;

pub use job_store::{JobRecord, JobStore, JobStoreError, StoredJob};
pub use store::{GetError, HaStore, PutError, RequestKey};
