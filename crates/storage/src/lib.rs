//! The only crate of the store that touches files: log engines, snapshots, data folders.
//!
//! The promise: **nothing is reported as done before the `fdatasync` that covers it has returned**, and a store that
//! cannot be read completely is reported as lost, never opened as an empty one. Bytes are opaque: this crate puts its own
//! versioned, checksummed header around them and cannot parse a command, a vote or a snapshot.
//!
//! Reading order: [`LogEngine`] (the seam, with its rules for callbacks and reads), [`LogOp`] and [`LogState`] (what goes
//! in and what stands), [`SnapshotStore`], [`DataFolder`] (whose folder it is), [`SledEngine`] and [`FileSnapshots`]
//! (production), [`BackupFile`] (a snapshot outside of any folder), [`SimDisk`] with [`SimEngine`] and [`SimSnapshots`] (a disk that loses what was not synced, for the
//! simulation).

mod acked_mark;
pub mod backup_file;
mod data_folder;
mod disk_space;
mod durable_file;
mod engine_health;
mod error;
mod file_snapshots;
mod log_engine;
mod log_metrics;
mod log_op;
mod log_state;
mod record;
mod sim_disk;
mod sim_engine;
mod sim_snapshots;
mod sled_engine;
mod sled_log;
mod sled_open;
mod sled_writer;
mod snapshot_file;
mod snapshot_store;
mod tail;

pub use backup_file::{BackupError, BackupFile};
pub use data_folder::DataFolder;
pub use engine_health::{EngineHealth, FullState};
pub use error::{OpenError, StorageError};
pub use file_snapshots::FileSnapshots;
pub use log_engine::{Done, LogEngine};
pub use log_metrics::LogMetrics;
pub use log_op::{LogOp, MAX_META_BYTES, MAX_RECORD_BYTES, MetaSlot};
pub use log_state::LogState;
pub use sim_disk::{Lost, SimDisk};
pub use sim_engine::SimEngine;
pub use sim_snapshots::SimSnapshots;
pub use sled_engine::{SledEngine, SledOptions};
pub use snapshot_store::{SNAPSHOT_PIECE_BYTES, Snapshot, SnapshotDraft, SnapshotStore};
