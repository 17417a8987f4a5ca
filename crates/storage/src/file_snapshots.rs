//! Snapshots as files: temporary name, sync in steps, rename, sync of the folder, then the older ones go. What is in a file,
//! `snapshot_file` says.
//!
//! It keeps no snapshot in memory. It keeps true: what `latest` gives was saved completely; a damaged latest is an error that
//! names the file, never the one before it; and a snapshot that is gone is a lost store, for the log that it covered is gone too.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::data_folder::{io, lost, number_text, parse_number};
use crate::snapshot_file::{self, Writing};
use crate::{DataFolder, OpenError, Snapshot, SnapshotDraft, SnapshotStore, StorageError, disk_space, durable_file};

/// The snapshots of one data folder.
#[derive(Clone, Debug)]
pub struct FileSnapshots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    numbers: Mutex<Numbers>,
    folder: DataFolder,
    /// Of the space that is left, so much belongs to the log.
    reserve_bytes: u64,
}

#[derive(Debug)]
struct Numbers {
    /// Of the latest file; 0 if there is none.
    latest: u64,
    /// Of the last draft of this process.
    draft: u64,
}

impl FileSnapshots {
    /// As [`FileSnapshots::open_beside`], of a disk that is theirs alone.
    pub fn open(folder: &DataFolder) -> Result<FileSnapshots, OpenError> {
        FileSnapshots::open_beside(folder, 0)
    }

    /// Opens the store of a disk on which `reserve_bytes` belong to the log: a snapshot is not begun that could not be as large as
    /// the latest without them. Removes torn temporary files and superseded snapshots, and checks the latest one.
    pub fn open_beside(folder: &DataFolder, reserve_bytes: u64) -> Result<FileSnapshots, OpenError> {
        let path = folder.snapshots();
        fs::create_dir_all(&path).map_err(io("creating folder", &path))?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&path).map_err(io("listing", &path))? {
            let file = entry.map_err(io("listing", &path))?.path();
            match number_of(&file) {
                Some(number) => numbers.push(number),
                None if file.extension().is_some_and(|extension| extension == "tmp") => {
                    fs::remove_file(&file).map_err(io("removing", &file))?;
                }
                None => {}
            }
        }
        let latest = numbers.iter().copied().max().unwrap_or(0);
        let saved = saved_number(&folder.snapshot_number())?;
        if latest < saved {
            return Err(lost(&path, format!("snapshot {saved} was saved and is gone")));
        }
        if latest > 0 {
            check(&file_of(&path, latest))?;
        }
        for older in numbers.into_iter().filter(|number| *number < latest) {
            let file = file_of(&path, older);
            fs::remove_file(&file).map_err(io("removing", &file))?;
        }
        durable_file::sync_folder(&path).map_err(io("syncing", &path))?;
        durable_file::sync_folder(folder.path()).map_err(io("syncing", folder.path()))?;
        let numbers = Mutex::new(Numbers { latest, draft: 0 });
        Ok(FileSnapshots(Arc::new(Shared { path, numbers, folder: folder.clone(), reserve_bytes })))
    }
}

impl Shared {
    /// Whether a snapshot as large as the latest fits beside the reserve. What cannot be asked is tried.
    fn has_room(&self, latest: u64) -> Result<(), StorageError> {
        let expected = fs::metadata(file_of(&self.path, latest)).map_or(0, |latest| latest.len());
        match disk_space::free_bytes(&self.path) {
            Ok(free_bytes) if free_bytes < expected + self.reserve_bytes => Err(StorageError::DiskFull { free_bytes }),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        // The numbers are changed in one step: a panic elsewhere leaves them right.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotStore for FileSnapshots {
    fn latest(&self) -> Result<Option<Snapshot>, StorageError> {
        // Held while opening: a save would remove the file under us.
        let numbers = self.0.lock();
        match numbers.latest {
            0 => Ok(None),
            latest => snapshot_file::open(file_of(&self.0.path, latest)).map(Some),
        }
    }

    fn begin(&self, meta: &[u8]) -> Result<Box<dyn SnapshotDraft>, StorageError> {
        let number = {
            let mut numbers = self.0.lock();
            self.0.has_room(numbers.latest)?;
            numbers.draft += 1;
            numbers.draft
        };
        let path = self.0.path.join(format!("draft-{number:020}.tmp"));
        let begun = File::options().write(true).create_new(true).open(&path);
        let writing = begun.and_then(|file| Writing::begin(file, meta)).map_err(|error| {
            let _ = fs::remove_file(&path);
            failed(&self.0.path, &error)
        })?;
        Ok(Box::new(Draft { store: Arc::clone(&self.0), path, writing: Some(writing) }))
    }
}

/// A file under a temporary name.
struct Draft {
    store: Arc<Shared>,
    path: PathBuf,
    /// `None`: it has failed, or is done.
    writing: Option<Writing>,
}

impl SnapshotDraft for Draft {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let writing = self.writing.as_mut().ok_or(StorageError::Closed)?;
        let written = writing.write(bytes).map_err(|error| failed(&self.store.path, &error));
        if written.is_err() {
            self.writing = None;
        }
        written
    }

    fn written(&self) -> (u64, u32) {
        self.writing.as_ref().map_or((0, 0), Writing::written)
    }

    fn save(mut self: Box<Self>) -> Result<Snapshot, StorageError> {
        let writing = self.writing.take().ok_or(StorageError::Closed)?;
        writing.end().map_err(|error| failed(&self.store.path, &error))?;
        let mut numbers = self.store.lock();
        let (older, newer) = (numbers.latest, numbers.latest + 1);
        let file = file_of(&self.store.path, newer);
        let renamed = fs::rename(&self.path, &file).and_then(|()| durable_file::sync_folder(&self.store.path));
        if file.exists() {
            // Also when only the last sync failed: the file is complete, and a save after this one must not reuse its name.
            numbers.latest = newer;
        }
        // The log below this snapshot may go as soon as we return: from here on it must be found again.
        let folder = &self.store.folder;
        renamed
            .and_then(|()| durable_file::replace(&folder.snapshot_number(), &[number_text(newer).as_bytes()]))
            .map_err(|error| failed(&self.store.path, &error))?;
        if older > 0 {
            // A left-over is harmless: the next opening removes it. Whoever reads it still has it.
            let _ = fs::remove_file(file_of(&self.store.path, older));
        }
        snapshot_file::open(file)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // One that was saved has another name by now.
        let _ = fs::remove_file(&self.path);
    }
}

/// Reads all of a snapshot, from the disk: whether it is what was saved.
fn check(file: &Path) -> Result<(), OpenError> {
    durable_file::forget_cached(file).map_err(io("syncing", file))?;
    let damaged = |error: StorageError| lost(file, error.to_string());
    let snapshot = snapshot_file::open(file.to_owned()).map_err(damaged)?;
    snapshot.pieces().try_for_each(|piece| piece.map(drop)).map_err(damaged)
}

/// The number of the last snapshot that was saved; 0 if none ever was.
fn saved_number(path: &Path) -> Result<u64, OpenError> {
    durable_file::remove_torn(path).map_err(io("cleaning", path))?;
    match durable_file::read_if_there(path).map_err(io("reading", path))? {
        Some(bytes) => parse_number(&bytes).ok_or_else(|| lost(path, "it is not a number with its checksum")),
        None => Ok(0),
    }
}

fn failed(path: &Path, error: &std::io::Error) -> StorageError {
    if disk_space::says_full(error) {
        return StorageError::DiskFull { free_bytes: disk_space::free_bytes(path).unwrap_or(0) };
    }
    StorageError::Failed { why: format!("saving a snapshot in {}: {error}", path.display()) }
}

fn file_of(path: &Path, number: u64) -> PathBuf {
    path.join(format!("snapshot-{number:020}.snap"))
}

fn number_of(file: &Path) -> Option<u64> {
    file.file_name()?.to_str()?.strip_prefix("snapshot-")?.strip_suffix(".snap")?.parse().ok()
}
