//! How much space is left on a file system, and which errors mean "none".

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Bytes that this process may still write where `path` lies.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Whether the error says that the disk, or this user's share of it, is full.
pub(crate) fn says_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
