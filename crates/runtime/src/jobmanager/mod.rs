//! The JobManager: campaigns, and while it leads runs Dispatcher, ResourceManager and a JobMaster per job.

mod components;
mod config;
mod dispatcher;
mod job_manager;
mod jobs;
mod owned_endpoint;
mod palisade_store;

pub use components::{Components, ComponentsError, Office};
pub(crate) use components::{DISPATCHER, RESOURCE_MANAGER, WorkView};
pub use config::{Heartbeats, JobManagerConfig};
pub use job_manager::{JobManager, StartError};
