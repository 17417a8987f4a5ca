//! Writes and reads payloads. A payload is written under a temporary name, synced, renamed, and its folder synced, so that a
//! name is either absent or whole, also after a power cut. It decides nothing about when a payload may be removed.
//!
//! All methods block; call them within [`World::blocking`](palisade_world::World::blocking).

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use palisade_world::files::{self, FileKind, Files};
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

/// The folder. Cheap to clone.
#[derive(Clone)]
pub struct StorageFolder {
    files: Arc<dyn Files>,
    root: PathBuf,
}

impl std::fmt::Debug for StorageFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorageFolder").field("root", &self.root).finish_non_exhaustive()
    }
}

impl StorageFolder {
    /// Opens it; creates it if it is not there.
    pub fn open(files: Arc<dyn Files>, root: &Path) -> Result<StorageFolder, StorageError> {
        let root = std::path::absolute(root).map_err(|error| failed("opening", root, error))?;
        files::create_folder(&*files, &root).map_err(|error| failed("creating", &root, error))?;
        Ok(StorageFolder { files, root })
    }

    /// Writes a payload; when this returns it survives a power cut. `writer` makes the temporary name unique.
    pub fn write(&self, path: &str, bytes: &[u8], writer: u64) -> Result<Payload, StorageError> {
        let target = self.resolve(path)?;
        let folder = target.parent().unwrap_or(&self.root);
        files::create_folder(&*self.files, folder).map_err(|error| failed("creating", folder, error))?;
        let temporary = target.with_extension(format!("{writer:016x}.tmp"));
        files::replace(&*self.files, &target, &temporary, bytes).map_err(|error| failed("writing", &target, error))?;
        let length = u64::try_from(bytes.len()).expect("a usize fits in a u64");
        Ok(Payload { path: path.to_owned(), length, crc32: crc32fast::hash(bytes) })
    }

    /// Reads a payload, whole and as it was written.
    pub fn read(&self, payload: &Payload) -> Result<Vec<u8>, StorageError> {
        let path = self.resolve(&payload.path)?;
        let damaged = |why: String| StorageError::Damaged { path: path.clone(), why };
        let read = || {
            let file = self.files.open(&path)?;
            let length = file.length()?;
            if length != payload.length {
                return Ok(Err(damaged(format!("it has {length} bytes instead of {}", payload.length))));
            }
            let mut bytes = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(Ok(bytes))
        };
        let bytes: Vec<u8> = read().map_err(|error| failed("reading", &path, error))??;
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
            let file = self.files.open(&path)?;
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
        let removed = self.files.kind(&target).and_then(|kind| match kind {
            FileKind::Folder => self.files.remove_folder(&target),
            FileKind::File { .. } | FileKind::Other => self.files.remove_file(&target),
        });
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", &target, error)),
            _ => Ok(()),
        }
    }

    /// Names in a folder, sorted; none if it is not there.
    pub fn list(&self, path: &str) -> Result<Vec<String>, StorageError> {
        let folder = self.resolve(path)?;
        let entries = match self.files.list(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("listing", &folder, error)),
        };
        let mut names: Vec<String> = entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect();
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
}

fn failed(what: &'static str, path: &Path, error: io::Error) -> StorageError {
    StorageError::Io { what, path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use palisade_world::LocalFiles;

    use super::*;

    #[test]
    fn a_payload_comes_back_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let folder = StorageFolder::open(Arc::new(LocalFiles), &root.path().join("s")).unwrap();
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
        let folder = StorageFolder::open(Arc::new(LocalFiles), root.path()).unwrap();
        for path in ["", "..", "a/../../b", "/etc/passwd"] {
            assert!(matches!(folder.write(path, b"", 1), Err(StorageError::BadPath(_))), "{path}");
        }
    }
}
