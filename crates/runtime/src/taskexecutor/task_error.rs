//! Why a task failed.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::exchange_client::ChannelBroken;
use crate::dataflow::batch::BadBatch;
use crate::dataflow::count::BadCounts;
use crate::jobmaster::scheduler::Lasting;
use crate::storage::StorageError;

/// A task cannot go on.
#[derive(Debug, Error)]
pub(crate) enum TaskError {
    #[error(transparent)]
    Channel(#[from] ChannelBroken),
    #[error("the channel from source-{0} broke")]
    InputBroken(usize),
    #[error(transparent)]
    BadBatch(#[from] BadBatch),
    #[error(transparent)]
    BadState(#[from] BadCounts),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("input: '{path}': {error}")]
    Input { path: PathBuf, error: io::Error },
    #[error("input: '{path}' is shorter than it was when the job was submitted")]
    Shrunk { path: PathBuf },
    #[error("input: '{path}': {why}")]
    Word { path: PathBuf, why: String },
    #[error("job graph '{path}': {why}")]
    BadGraph { path: String, why: String },
    #[error("blocking work ended by a panic")]
    Panicked,
}

impl TaskError {
    /// Whether a new attempt would fail alike.
    pub(crate) fn lasting(&self) -> Lasting {
        match self {
            TaskError::Input { error, .. }
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory
                ) =>
            {
                Lasting::Yes
            }
            TaskError::Shrunk { .. } | TaskError::Word { .. } | TaskError::BadState(_) | TaskError::BadGraph { .. } => {
                Lasting::Yes
            }
            TaskError::Storage(StorageError::Damaged { .. } | StorageError::BadPath(_)) => Lasting::Yes,
            _ => Lasting::No,
        }
    }
}
