//! What can go wrong, one enum per kind of operation, with variants named by what the caller can do.

use std::path::PathBuf;

/// Why an operation on an open store failed. Cloned into every callback that it concerns.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StorageError {
    /// No space: reads go on, writes are refused until space is freed and the node restarted.
    #[error("disk full: {free_bytes} bytes free; free space, then restart this node")]
    DiskFull {
        /// Free at that moment.
        free_bytes: u64,
    },
    /// A read found bytes that this crate did not write: the store must be replaced.
    #[error("corrupt: {what}; this node's store is lost: remove it and add it under a new id")]
    Corrupt {
        /// Which record or file.
        what: String,
    },
    /// The caller broke a rule of the log (a gap, an oversized record). The engine stops.
    #[error("the log was misused: {what}")]
    Misused {
        /// Which rule.
        what: String,
    },
    /// A write or sync failed: whether it is durable is unknown, and nothing after it is taken. Restart the node.
    #[error("the disk failed: {why}")]
    Failed {
        /// The first failure.
        why: String,
    },
    /// The engine was closed (or, in the simulation, its process crashed) before this became durable.
    #[error("the store was closed")]
    Closed,
}

/// Why a store could not be opened. Nothing of ours was changed in it, except that
/// left-over temporary files were removed; sled may have worked on its own files before it gave up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("data folder {folder} is in use by another process")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// It cannot be read completely. Never opened as an empty one: a node that forgets its vote or acknowledged entries
    /// breaks the cluster's promises.
    #[error("this node's store is lost: remove it and add it under a new id ({folder}: {why})")]
    Lost {
        /// The folder or file.
        folder: PathBuf,
        /// What was found.
        why: String,
    },
    /// Something is in a folder that must be new.
    #[error("{folder} is not empty ({found}): a backup is restored into a new folder")]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
        /// Something in it.
        found: String,
    },
    /// A backup was being restored into it, and that did not come to its end.
    #[error("restoring a backup into {folder} was interrupted: remove what is in it, and restore it again")]
    RestoreInterrupted {
        /// The folder.
        folder: PathBuf,
    },
    /// Written by a version that this one does not know.
    #[error("{path} has format {found}; this version reads format {known}")]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this version reads.
        known: u32,
    },
    /// The operating system refused: permissions, no space, a path that is not a folder.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}
