//! Writes and reads payloads. A payload is written under a temporary name, synced, renamed, and its folder synced, so that a
//! name is either absent or whole, also after a power cut. It decides nothing about when a payload may be removed.
//!
//! All methods block; call them off the main threads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use super::Payload;

/// A payload could not be written, read or removed.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The file system says no.
    #[error("storage: {what} '{path}': {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What came back.
        error: io::Error,
    },
    /// What is there is not what was written.
    #[error("storage: '{path}' is damaged: {why}")]
    Damaged {
        /// Where.
        path: PathBuf,
        /// How one knows.
        why: String,
    },
    /// A path that would leave the folder.
    #[error("storage: '{0}' is not a path below the storage folder")]
    BadPath(String),
}

/// The folder.
#[derive(Clone, Debug)]
pub struct StorageFolder {
    root: PathBuf,
}

impl StorageFolder {
    /// Opens it; creates it if it is not there.
    pub fn open(root: &Path) -> Result<StorageFolder, StorageError> {
        fs::create_dir_all(root).map_err(|error| failed("creating", root, error))?;
        let root = fs::canonicalize(root).map_err(|error| failed("opening", root, error))?;
        Ok(StorageFolder { root })
    }

    /// Writes a payload; when this returns it survives a power cut. `writer` makes the temporary name unique.
    pub fn write(&self, path: &str, bytes: &[u8], writer: u64) -> Result<Payload, StorageError> {
        let target = self.resolve(path)?;
        let folder = target.parent().unwrap_or(&self.root).to_owned();
        self.create_folder(&folder)?;
        let temporary = target.with_extension(format!("{writer:016x}.tmp"));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &target)?;
            sync_folder(&folder)
        })();
        if let Err(error) = written {
            // Best effort: a left-over temporary file is never read.
            let _ = fs::remove_file(&temporary);
            return Err(failed("writing", &target, error));
        }
        let length = u64::try_from(bytes.len()).expect("a usize fits in a u64");
        Ok(Payload { path: path.to_owned(), length, crc32: crc32fast::hash(bytes) })
    }

    /// Reads a payload, whole and as it was written.
    pub fn read(&self, payload: &Payload) -> Result<Vec<u8>, StorageError> {
        let path = self.resolve(&payload.path)?;
        let damaged = |why: String| StorageError::Damaged { path: path.clone(), why };
        let file = File::open(&path).map_err(|error| failed("reading", &path, error))?;
        let length = file.metadata().map_err(|error| failed("reading", &path, error))?.len();
        if length != payload.length {
            return Err(damaged(format!("it has {length} bytes instead of {}", payload.length)));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        // One more than the length: a file that grew between is noticed, and cannot fill the memory.
        file.take(length + 1).read_to_end(&mut bytes).map_err(|error| failed("reading", &path, error))?;
        let crc32 = crc32fast::hash(&bytes);
        if crc32 != payload.crc32 {
            return Err(damaged(format!("its CRC-32 is {crc32:08x} instead of {:08x}", payload.crc32)));
        }
        Ok(bytes)
    }

    /// Reads a part of a payload without checking the whole of it.
    pub fn read_at(&self, payload: &Payload, offset: u64, at_most: usize) -> Result<Vec<u8>, StorageError> {
        let path = self.resolve(&payload.path)?;
        let read = || {
            use std::os::unix::fs::FileExt;
            let file = File::open(&path)?;
            let left = usize::try_from(payload.length.saturating_sub(offset)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; at_most.min(left)];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        read().map_err(|error| failed("reading", &path, error))
    }

    /// Removes a file or a folder with all that is in it; being gone already is fine.
    pub fn remove(&self, path: &str) -> Result<(), StorageError> {
        let target = self.resolve(path)?;
        let removed = match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&target),
            Ok(_) => fs::remove_file(&target),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", &target, error)),
            _ => Ok(()),
        }
    }

    /// Names in a folder, sorted; none if it is not there.
    pub fn list(&self, path: &str) -> Result<Vec<String>, StorageError> {
        let folder = self.resolve(path)?;
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("listing", &folder, error)),
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    fn resolve(&self, path: &str) -> Result<PathBuf, StorageError> {
        let relative = Path::new(path);
        if path.is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(StorageError::BadPath(path.to_owned()));
        }
        Ok(self.root.join(relative))
    }

    /// Creates a folder and syncs every parent that got a new name.
    fn create_folder(&self, folder: &Path) -> Result<(), StorageError> {
        let mut missing = Vec::new();
        let mut at = folder;
        while !at.exists() {
            missing.push(at);
            at = at.parent().unwrap_or(&self.root);
        }
        fs::create_dir_all(folder).map_err(|error| failed("creating", folder, error))?;
        for made in missing.into_iter().rev() {
            let parent = made.parent().unwrap_or(&self.root);
            sync_folder(parent).map_err(|error| failed("syncing", parent, error))?;
        }
        Ok(())
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn failed(what: &'static str, path: &Path, error: io::Error) -> StorageError {
    StorageError::Io { what, path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_comes_back_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let folder = StorageFolder::open(&root.path().join("s")).unwrap();
        let payload = folder.write("jobs/j/41/chk-1/count-0", b"hello", 1).unwrap();
        assert_eq!(folder.read(&payload).unwrap(), b"hello");
        assert_eq!(folder.read_at(&payload, 3, 100).unwrap(), b"lo");
        assert_eq!(folder.list("jobs/j/41").unwrap(), ["chk-1"]);
        assert_eq!(folder.list("jobs/j/41/chk-1").unwrap(), ["count-0"], "no temporary file is left");
        fs::write(root.path().join("s/jobs/j/41/chk-1/count-0"), b"hellO").unwrap();
        assert!(matches!(folder.read(&payload), Err(StorageError::Damaged { .. })));
        fs::write(root.path().join("s/jobs/j/41/chk-1/count-0"), b"hell").unwrap();
        assert!(matches!(folder.read(&payload), Err(StorageError::Damaged { .. })));
        folder.remove("jobs/j").unwrap();
        folder.remove("jobs/j").unwrap();
        assert!(matches!(folder.read(&payload), Err(StorageError::Io { .. })));
    }

    #[test]
    fn a_path_cannot_leave_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = StorageFolder::open(root.path()).unwrap();
        for path in ["", "..", "a/../../b", "/etc/passwd"] {
            assert!(matches!(folder.write(path, b"", 1), Err(StorageError::BadPath(_))), "{path}");
        }
    }
}
