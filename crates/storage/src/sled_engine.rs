//! stub
use crate::{DataFolder, Done, EngineHealth, LogEngine, LogOp, LogState, OpenError, StorageError};
use bytes::Bytes;
/// How a sled engine is opened.
#[derive(Clone, Debug, Default)]
pub struct SledOptions {}
/// The production engine.
pub struct SledEngine {}
impl SledEngine {
    /// Opens it.
    pub fn open(_folder: &DataFolder, _options: SledOptions) -> Result<SledEngine, OpenError> {
        panic!("not yet")
    }
}
impl LogEngine for SledEngine {
    fn state(&self) -> LogState {
        panic!("not yet")
    }
    fn read(&self, _from: u64, _to_exclusive: u64, _max_bytes: usize) -> Result<Vec<(u64, Bytes)>, StorageError> {
        panic!("not yet")
    }
    fn submit(&self, _ops: Vec<LogOp>, _done: Option<Done>) {
        panic!("not yet")
    }
    fn health(&self) -> EngineHealth {
        panic!("not yet")
    }
}
