//! Where snapshots live: the seam beside [`crate::LogEngine`].

use bytes::Bytes;

use crate::StorageError;

/// A snapshot as it was saved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Opaque; small.
    pub meta: Bytes,
    /// Opaque; the whole state machine.
    pub data: Bytes,
}

/// Keeps the latest snapshot. Both methods block on the disk: call them where blocking is allowed.
pub trait SnapshotStore: Send + Sync + 'static {
    /// The latest snapshot that was saved; `None` if none ever was. An unreadable one is an error, never `None`.
    fn latest(&self) -> Result<Option<Snapshot>, StorageError>;

    /// Returns when the snapshot is durable and is what [`SnapshotStore::latest`] gives, also after a crash. On an error
    /// the latest one is the old or the new one, and complete. Saves do not overlap: a second one waits.
    fn save(&self, meta: &[u8], data: &[u8]) -> Result<(), StorageError>;
}
