//! One job under one leadership.

pub mod checkpoints;
pub mod scheduler;
pub mod task;
