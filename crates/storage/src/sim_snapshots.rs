//! Snapshots on a [`SimDisk`]: durable when `save` returns, as files are. Nothing is torn, since a save is one step here.

use bytes::Bytes;

use crate::{OpenError, SimDisk, Snapshot, SnapshotDraft, SnapshotStore, StorageError};

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

    fn begin(&self, meta: &[u8]) -> Result<Box<dyn SnapshotDraft>, StorageError> {
        let process = self.disk.lock().process;
        let meta = Bytes::copy_from_slice(meta);
        Ok(Box::new(Draft { disk: self.disk.clone(), process, meta, data: Vec::new() }))
    }
}

struct Draft {
    disk: SimDisk,
    /// A process that was killed saves nothing any more.
    process: u64,
    meta: Bytes,
    data: Vec<u8>,
}

impl SnapshotDraft for Draft {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        if self.disk.lock().full {
            return Err(StorageError::DiskFull { free_bytes: 0 });
        }
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    fn written(&self) -> (u64, u32) {
        (self.data.len() as u64, crc32fast::hash(&self.data))
    }

    fn save(self: Box<Self>) -> Result<Snapshot, StorageError> {
        let mut disk = self.disk.lock();
        if disk.process != self.process {
            return Err(StorageError::Closed);
        }
        if disk.full {
            return Err(StorageError::DiskFull { free_bytes: 0 });
        }
        if std::mem::take(&mut disk.save_fails) {
            return Err(StorageError::Failed { why: "saving a snapshot: input/output error (simulated)".to_owned() });
        }
        let snapshot = Snapshot::in_memory(self.meta.clone(), Bytes::from(self.data.clone()));
        disk.snapshot = Some(snapshot.clone());
        Ok(snapshot)
    }
}
