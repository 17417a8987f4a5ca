//! One coordination node: gRPC services, admission, formation, and the drivers that carry out what the pure crates decide.
//!
//! It holds no decision about sessions, elections or keys (`coord-core`), about deadlines (`liveness`) or about Raft
//! (`replica`).
//!
//! Reading order: [`NodeConfig`] (what a node is told), [`Node`] (the order of start and stop), `machine` (the replicated
//! state, driven by the replica; an [`Audit`] may look on), [`hub`] (where applied events go), `proposer` (the way into the
//! log), `forward` (what another node answers), `api` and the services on it (`kv_service` with `key_replies` and `pipeline`,
//! `watch`, `election_service` with
//! `observe`, `cluster_service`), `sessions`
//! (streams and deadlines), `formation` and `joining` (who belongs to the cluster), [`backup`] (out of a cluster, and into a new one), `raise` (whether all know a level), `founding`, and the small watchers
//! `confirmation`, `disk`, `health`, `leadership_log`, `story`. `metrics` is what they count. `connections` and `admission` stand before all services: what a node takes on.

mod admission;
mod api;
mod audit;
pub mod backup;
pub mod build_info;
mod cluster_service;
mod config;
mod confirmation;
mod connections;
mod disk;
mod election_service;
mod formation;
mod forward;
mod founding;
mod health;
pub mod hub;
mod joining;
mod key_replies;
mod kv_service;
mod leadership_log;
mod long_reads;
mod machine;
mod metrics;
mod node;
mod observe;
mod pipeline;
mod proposer;
mod raise;
mod refusals;
mod session_backend;
mod sessions;
mod story;
mod watch;

pub use audit::Audit;
pub use config::{ConfigError, MAX_TTL, MIN_TTL, NodeConfig};
pub use formation::Misfit;
pub use node::{Node, NodeFailed, Observer, StartError, Stores};
pub use palisade_replica::{Member, Timings};
pub use proposer::{Proposer, SubmitError};
