//! Snapshots on a [`SimDisk`]: durable when `save` returns, as files are. Nothing is torn, since a save is one step here.

use bytes::Bytes;

use crate::{OpenError, SimDisk, Snapshot, SnapshotStore, StorageError};

/// The snapshots of a simulated disk.
pub struct SimSnapshots {
    disk: SimDisk,
}

impl SimSnapshots {
    /// Opens them; never fails, and says `Result` to be exchangeable with the files.
    pub fn open(disk: &SimDisk) -> Result<SimSnapshots, OpenError> {
        Ok(SimSnapshots { disk: disk.clone() })
    }
}

impl SnapshotStore for SimSnapshots {
    fn latest(&self) -> Result<Option<Snapshot>, StorageError> {
        Ok(self.disk.lock().snapshot.clone())
    }

    fn save(&self, meta: &[u8], data: &[u8]) -> Result<(), StorageError> {
        let mut disk = self.disk.lock();
        if disk.full {
            return Err(StorageError::DiskFull { free_bytes: 0 });
        }
        if std::mem::take(&mut disk.save_fails) {
            return Err(StorageError::Failed { why: "saving a snapshot: input/output error (simulated)".to_owned() });
        }
        disk.snapshot = Some(Snapshot { meta: Bytes::copy_from_slice(meta), data: Bytes::copy_from_slice(data) });
        Ok(())
    }
}
