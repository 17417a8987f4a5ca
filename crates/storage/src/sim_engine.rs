//! The log engine of the simulation: a process's handle on a [`SimDisk`]. It syncs nothing by itself.

use bytes::Bytes;

use crate::{
    Done, EngineHealth, FullState, LogEngine, LogOp, LogState, OpenError, SimDisk, StorageError, data_folder::lost,
};

/// A simulated process's log. Dead after a crash or another opening of its disk: it answers [`StorageError::Closed`].
pub struct SimEngine {
    disk: SimDisk,
    process: u64,
}

impl SimEngine {
    /// Opens the disk as a new process, which ends the one before. What it finds is durable.
    pub fn open(disk: &SimDisk) -> Result<SimEngine, OpenError> {
        let process = disk.take_over().map_err(|why| lost("simulated disk".as_ref(), why))?;
        Ok(SimEngine { disk: disk.clone(), process })
    }
}

impl LogEngine for SimEngine {
    fn state(&self) -> LogState {
        self.disk.lock().live.state.clone()
    }

    fn read(&self, from: u64, to_exclusive: u64, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, StorageError> {
        let disk = self.disk.lock();
        if disk.process != self.process {
            return Err(StorageError::Closed);
        }
        let state = &disk.live.state;
        let Some(last) = state.last else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        let mut size = 0;
        for index in from.max(state.first)..to_exclusive.min(last + 1) {
            let bytes = disk.live.entry(index)?;
            size += bytes.len();
            if !entries.is_empty() && size > max_bytes {
                break;
            }
            entries.push((index, bytes));
        }
        Ok(entries)
    }

    fn submit(&self, ops: Vec<LogOp>, done: Option<Done>) {
        self.disk.submit(self.process, ops, done);
    }

    fn health(&self) -> EngineHealth {
        let disk = self.disk.lock();
        match &disk.failure {
            Some(StorageError::DiskFull { free_bytes }) => {
                EngineHealth::DiskFull { free_bytes: *free_bytes, reserve_bytes: 1, state: FullState::WritesRefused }
            }
            Some(failure) => EngineHealth::Failed { why: failure.to_string() },
            None if disk.full || disk.low => {
                EngineHealth::DiskFull { free_bytes: 0, reserve_bytes: 1, state: FullState::ReserveReached }
            }
            None => EngineHealth::Ok,
        }
    }
}
