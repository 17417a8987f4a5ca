//! Snapshots as files: temporary name, checksum, sync, rename, sync of the folder, then the older ones go.
//!
//! ```text
//! magic "PALISNAP" | version u8 | crc32 u32 | meta length u64 | data length u64 | meta | data     big-endian
//! ```
//! The checksum covers everything after itself. It keeps no snapshot in memory. It keeps true: what `latest` gives was
//! saved completely; a damaged latest is an error that names the file, never the one before it; and a snapshot that is gone
//! is a lost store, for the log that it covered is gone too.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;

use crate::data_folder::{io, lost, number_text, parse_number};
use crate::{DataFolder, OpenError, Snapshot, SnapshotStore, StorageError, disk_space, durable_file};

const MAGIC: &[u8; 8] = b"PALISNAP";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8 + 1 + 4 + 8 + 8;

/// The snapshots of one data folder.
#[derive(Debug)]
pub struct FileSnapshots {
    path: PathBuf,
    /// The number of the latest file; 0 if there is none. Held during a save, so that saves do not overlap.
    latest: Mutex<u64>,
    folder: DataFolder,
}

impl FileSnapshots {
    /// Opens the store, removes torn temporary files and superseded snapshots, and checks the latest one.
    pub fn open(folder: &DataFolder) -> Result<FileSnapshots, OpenError> {
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
            let file = file_of(&path, latest);
            let bytes = fs::read(&file).map_err(io("reading", &file))?;
            decode(bytes.into()).map_err(|why| lost(&file, why))?;
        }
        for older in numbers.into_iter().filter(|number| *number < latest) {
            let file = file_of(&path, older);
            fs::remove_file(&file).map_err(io("removing", &file))?;
        }
        durable_file::sync_folder(&path).map_err(io("syncing", &path))?;
        durable_file::sync_folder(folder.path()).map_err(io("syncing", folder.path()))?;
        Ok(FileSnapshots { path, latest: Mutex::new(latest), folder: folder.clone() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u64> {
        // The number is changed in one step: a panic elsewhere leaves it right.
        self.latest.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl SnapshotStore for FileSnapshots {
    fn latest(&self) -> Result<Option<Snapshot>, StorageError> {
        // Held while reading: a save would remove the file under us.
        let latest = self.lock();
        if *latest == 0 {
            return Ok(None);
        }
        let file = file_of(&self.path, *latest);
        let corrupt = |why: String| StorageError::Corrupt { what: format!("snapshot {}: {why}", file.display()) };
        let bytes = fs::read(&file).map_err(|error| corrupt(error.to_string()))?;
        decode(bytes.into()).map(Some).map_err(|why| corrupt(why.to_owned()))
    }

    fn save(&self, meta: &[u8], data: &[u8]) -> Result<(), StorageError> {
        let mut latest = self.lock();
        let (older, newer) = (*latest, *latest + 1);
        let file = file_of(&self.path, newer);
        let header = header(meta, data);
        let replaced = durable_file::replace(&file, &[&header, meta, data]);
        if file.exists() {
            // Also when only the last sync failed: the file is complete, and a save after this one must not reuse its name.
            *latest = newer;
        }
        // The log below this snapshot may go as soon as we return: from here on it must be found again.
        replaced
            .and_then(|()| durable_file::replace(&self.folder.snapshot_number(), &[number_text(newer).as_bytes()]))
            .map_err(|error| failed(&self.path, &error))?;
        if older > 0 {
            // A left-over is harmless: the next opening removes it.
            let _ = fs::remove_file(file_of(&self.path, older));
        }
        Ok(())
    }
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

fn header(meta: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.push(VERSION);
    header.extend_from_slice(&checksum(meta, data).to_be_bytes());
    header.extend_from_slice(&(meta.len() as u64).to_be_bytes());
    header.extend_from_slice(&(data.len() as u64).to_be_bytes());
    header
}

fn checksum(meta: &[u8], data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(meta.len() as u64).to_be_bytes());
    hasher.update(&(data.len() as u64).to_be_bytes());
    hasher.update(meta);
    hasher.update(data);
    hasher.finalize()
}

fn decode(bytes: Bytes) -> Result<Snapshot, &'static str> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Err("it ends early") };
    let number = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("eight bytes were cut"));
    if header[..8] != *MAGIC {
        return Err("it is not a snapshot of Palisade");
    }
    if header[8] != VERSION {
        return Err("a later version wrote it");
    }
    let expected = u32::from_be_bytes(header[9..13].try_into().expect("four bytes were cut"));
    let (meta, data) = (number(13), number(21));
    if meta.checked_add(data) != Some(body.len() as u64) {
        return Err("its length is wrong");
    }
    let split = HEADER_BYTES + usize::try_from(meta).map_err(|_| "its length is wrong")?;
    let snapshot = Snapshot { meta: bytes.slice(HEADER_BYTES..split), data: bytes.slice(split..) };
    if checksum(&snapshot.meta, &snapshot.data) != expected {
        return Err("its checksum is wrong");
    }
    Ok(snapshot)
}
