//! TaskExecutors and their slots under one leadership.

mod actor;
mod endpoint;
pub mod slot_manager;

pub(crate) use actor::{Overview, ResourceManagerHandle, start};
pub(crate) use endpoint::ResourceManager;
