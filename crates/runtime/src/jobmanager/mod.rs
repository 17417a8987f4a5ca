//! The JobManager: campaigns, and while it leads runs Dispatcher, ResourceManager and a JobMaster per job.

mod config;
mod dispatcher;
mod job_manager;
mod jobs;
mod leadership;
mod palisade_store;

pub use config::{Heartbeats, JobManagerConfig};
pub use job_manager::{JobManager, StartError};
pub(crate) use leadership::{DISPATCHER, RESOURCE_MANAGER};
