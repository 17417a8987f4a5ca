//! The storage folder: payloads of job graphs, checkpoints and results, shared by all processes of a cluster.

mod folder;
mod payload;

pub use folder::{StorageError, StorageFolder};
pub use payload::Payload;
