//! Keys as etcd v3 keeps them: bytes in order, each with its counters and its past, written under one revision per command.
//!
//! Reading order: [`op`] (what can be asked, what is answered), [`space`] on `lineage` (what is kept), `plan` (a transaction
//! decides what it does before it does anything), `read`, `write`, [`changes`] (for watchers) and `compaction`.
//!
//! A fence is checked here, in the step that writes: not before it, by somebody else.

pub mod changes;
mod compaction;
mod lineage;
pub mod op;
mod plan;
mod read;
pub mod space;
mod write;

pub(crate) use compaction::compact;
pub(crate) use lineage::Lineage;
pub use lineage::Version;
pub(crate) use write::{apply, release};
