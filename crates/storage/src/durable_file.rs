//! Replacing a small file so that after any crash it is the old one or the new one, complete.
//! It does not check contents; each format has its own checksum.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use palisade_planted::{self as planted, Bug};

/// Writes `parts` to a temporary file beside `path`, syncs it, renames it over `path` and syncs the folder.
///
/// Returns after all of that; on an error `path` is the old or the new file.
pub(crate) fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = temporary_of(path);
    let written = write_synced(&temporary, parts).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: opening removes what stays behind.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(parent_of(path))
}

/// Removes what a crash in [`replace`] left behind.
pub(crate) fn remove_torn(path: &Path) -> io::Result<()> {
    match fs::remove_file(temporary_of(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the names in `folder` durable: creations, renames and removals.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = File::open(folder)?;
    if planted::is(Bug::SkipFolderSync) {
        return Ok(());
    }
    folder.sync_all()
}

/// Has whoever reads a file from now on read the disk, and not what the system has in memory of it: after a sync that failed, pages
/// that never reached the disk stay there, and count as clean for every later sync.
///
/// It is advice: pages that somebody maps into memory stay. What is dirty cannot be let go, so it is synced before.
pub(crate) fn forget_cached(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(io::Error::from)
}

/// The folder that holds `path`.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// `None` if there is no such file.
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn temporary_of(path: &Path) -> std::path::PathBuf {
    let mut name = path.file_name().expect("durable files have a name").to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

fn write_synced(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}
