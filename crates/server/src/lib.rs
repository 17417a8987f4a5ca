//! One coordination node: gRPC services, admission, formation.

pub mod build_info;
pub mod hub;
#[allow(dead_code, unused_imports)] // started by the node, which comes next
mod sessions;
