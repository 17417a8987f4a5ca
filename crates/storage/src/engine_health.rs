//! Whether an engine can be written to, in the words that status and health show.

use std::fmt;

/// See [`crate::LogEngine::health`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EngineHealth {
    /// It takes writes.
    Ok,
    /// Little or no space is left. Reads go on. Stop admitting writes and hand leadership over.
    DiskFull {
        /// Free for this process on that file system.
        free_bytes: u64,
        /// Below this much it counts as full.
        reserve_bytes: u64,
        /// What still works, and what helps.
        state: FullState,
    },
    /// A write or sync failed, or the caller broke the log. Nothing more is written; reads go on as far as they can.
    /// Only a restart helps.
    Failed {
        /// The first failure.
        why: String,
    },
}

/// How full the disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FullState {
    /// Below the reserve: what Raft itself must write is still taken. Becomes `Ok` by itself when space is freed.
    ReserveReached,
    /// A write was refused or failed for lack of space, and nothing after it can be taken: free space, then restart.
    WritesRefused,
}

impl fmt::Display for EngineHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineHealth::Ok => f.write_str("ok"),
            EngineHealth::DiskFull { free_bytes, reserve_bytes, state } => {
                write!(f, "disk full: {free_bytes} bytes free, {reserve_bytes} are kept in reserve; ")?;
                f.write_str(match state {
                    FullState::ReserveReached => "free space to go on",
                    FullState::WritesRefused => "free space, then restart this node",
                })
            }
            EngineHealth::Failed { why } => write!(f, "the log has failed: {why}; restart this node"),
        }
    }
}
