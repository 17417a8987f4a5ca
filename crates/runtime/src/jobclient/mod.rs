//! What submits jobs and asks about them.

mod job_client;

pub use job_client::{CounterValue, JobClient, JobClientError};
