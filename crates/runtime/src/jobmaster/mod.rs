//! One job under one leadership.

pub mod checkpoints;
mod endpoint;
mod job_master;
mod recovery;
pub mod scheduler;
pub mod task;
pub(crate) mod workers;

pub(crate) use endpoint::JobMaster;
pub(crate) use job_master::{Command, JobMasterContext, JobMasterHandle, clean_up, start};
