//! The TaskExecutor: slots, tasks, and the exchange of records between them.

mod config;
mod count_task;
mod counters;
mod endpoint;
mod exchange_client;
mod exchange_server;
#[cfg(test)]
mod exchange_tests;
mod gate;
mod links;
mod registration;
mod report;
mod reporter;
mod source_task;
mod task_error;
mod task_executor;
mod task_manager;

pub use config::TaskExecutorConfig;
pub(crate) use counters::Counters;
pub use task_executor::{TaskExecutor, TaskExecutorStartError};
pub(crate) use task_manager::attempt_folder;
