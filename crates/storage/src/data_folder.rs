//! Whose data folder it is: one process at a time, one store id for life, one known format.
//!
//! ```text
//! LOCK        flock'ed while a process uses the folder
//! FORMAT      the version of this layout
//! STORE_ID    a random number that names this store; the cluster refuses another one under the same node id
//! LOG_MADE    written once the log was created: from then on a missing log is a lost store, not a new one
//! ACKED       how far the log was acknowledged (see `acked_mark`)
//! SNAPSHOT    the number of the last snapshot that was saved: an older one, or none, is a lost store
//! RESTORING   there while a backup is being restored into the folder: what was interrupted is no store
//! log/        sled
//! snapshots/  one file per snapshot
//! ```
//! It knows nothing of what lies in the log. It keeps true: a folder that ever took part is never opened as a new one.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use crate::{OpenError, durable_file};

/// The layout that this version writes and reads.
const FORMAT: u32 = 1;

/// There while a backup is being restored. Without it a folder that got only a part would be taken for a new node's.
const RESTORING: &str = "RESTORING";

/// A locked data folder. Clones share the lock; it is released when the last clone, and every engine opened on it, is gone.
#[derive(Clone, Debug)]
pub struct DataFolder {
    path: PathBuf,
    store_id: u64,
    /// Held, never read.
    _lock: Arc<Flock<File>>,
}

impl DataFolder {
    /// Locks the folder, creating it if it does not exist, and reads its store id. A new folder gets `new_store_id`
    /// (random; 0 is reserved and becomes 1), durably, before this returns.
    pub fn open(path: impl AsRef<Path>, new_store_id: u64) -> Result<DataFolder, OpenError> {
        let (path, lock) = DataFolder::locked(path.as_ref())?;
        // Looked at under the lock: whoever restores marks the folder under it, too.
        if path.join(RESTORING).exists() {
            return Err(OpenError::RestoreInterrupted { folder: path });
        }
        DataFolder::opened(path, lock, new_store_id)
    }

    /// Creates the folder if it does not exist, and locks it before anything in it is looked at.
    fn locked(path: &Path) -> Result<(PathBuf, Flock<File>), OpenError> {
        fs::create_dir_all(path).map_err(io("creating folder", path))?;
        let path = path.canonicalize().map_err(io("resolving", path))?;
        let lock = lock(&path, &path.join("LOCK"))?;
        Ok((path, lock))
    }

    fn opened(path: PathBuf, lock: Flock<File>, new_store_id: u64) -> Result<DataFolder, OpenError> {
        let known = known_format(&path)?;
        let store_id = match read_store_id(&path)? {
            Some(store_id) => store_id,
            None => found(&path, new_store_id.max(1))?,
        };
        if !known {
            return Err(lost(&path, "it has a store id and no FORMAT file"));
        }
        Ok(DataFolder { path, store_id, _lock: Arc::new(lock) })
    }

    /// As [`DataFolder::open`], for a backup that is to be restored into it: the folder must be new or empty, and nobody can open it
    /// before [`DataFolder::restored`].
    pub fn begin_restore(path: impl AsRef<Path>, new_store_id: u64) -> Result<DataFolder, OpenError> {
        let path = path.as_ref();
        // Not even a lock is put into a folder of somebody else's.
        if path.exists() {
            refuse_content(path)?;
        }
        let (path, lock) = DataFolder::locked(path)?;
        // Again, now that nobody can begin anything in it.
        refuse_content(&path)?;
        let marker = path.join(RESTORING);
        durable_file::replace(&marker, &[b"1\n"]).map_err(io("writing", &marker))?;
        DataFolder::opened(path, lock, new_store_id)
    }

    /// All of the backup is in it, durably: from now on it is a store.
    pub fn restored(&self) -> Result<(), OpenError> {
        let marker = self.path.join(RESTORING);
        fs::remove_file(&marker).map_err(io("removing", &marker))?;
        durable_file::sync_folder(&self.path).map_err(io("syncing", &self.path))
    }

    /// Names this store for life: sent with every peer call.
    pub fn store_id(&self) -> u64 {
        self.store_id
    }

    /// The folder itself, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where sled lives.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where snapshots live.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// Where the number of the last saved snapshot stands.
    pub(crate) fn snapshot_number(&self) -> PathBuf {
        self.path.join("SNAPSHOT")
    }

    /// Whether a log was completely created here once.
    pub(crate) fn log_was_made(&self) -> bool {
        self.path.join("LOG_MADE").exists()
    }

    /// Says so for all later openings, durably.
    pub(crate) fn log_is_made(&self) -> Result<(), OpenError> {
        let marker = self.path.join("LOG_MADE");
        durable_file::replace(&marker, &[b"1\n"]).map_err(io("writing", &marker))
    }
}

/// Sixteen hexadecimal digits and their checksum: how the numbers of a folder are written.
pub(crate) fn number_text(number: u64) -> String {
    format!("{number:016x} {:08x}\n", crc32fast::hash(&number.to_be_bytes()))
}

/// The reverse of [`number_text`]; `None` for anything else.
pub(crate) fn parse_number(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number = u64::from_str_radix(text.get(..16)?, 16).ok()?;
    (number_text(number) == text).then_some(number)
}

/// Takes the lock file, or says that the folder is in use.
pub(crate) fn lock(folder: &Path, path: &Path) -> Result<Flock<File>, OpenError> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(io("opening", path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => OpenError::InUse { folder: folder.to_owned() },
        errno => OpenError::Io { action: "locking", path: path.to_owned(), source: errno.into() },
    })
}

/// Shapes an error of the operating system.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    move |source| OpenError::Io { action, path: path.to_owned(), source }
}

/// Shapes "this store is lost".
pub(crate) fn lost(folder: &Path, why: impl Into<String>) -> OpenError {
    OpenError::Lost { folder: folder.to_owned(), why: why.into() }
}

/// Whether FORMAT says a version that we know. A folder of nobody gets one; then nothing else of ours may be in it.
fn known_format(path: &Path) -> Result<bool, OpenError> {
    let file = path.join("FORMAT");
    durable_file::remove_torn(&file).map_err(io("cleaning", &file))?;
    match durable_file::read_if_there(&file).map_err(io("reading", &file))? {
        Some(bytes) if bytes == format!("{FORMAT}\n").as_bytes() => Ok(true),
        Some(bytes) => {
            let found = String::from_utf8_lossy(&bytes).trim().chars().take(40).collect();
            Err(OpenError::Format { path: file, found, known: FORMAT })
        }
        None if path.join("STORE_ID").exists() => Ok(false),
        None => {
            refuse_remains(path)?;
            durable_file::replace(&file, &[format!("{FORMAT}\n").as_bytes()]).map_err(io("writing", &file))?;
            Ok(true)
        }
    }
}

fn read_store_id(path: &Path) -> Result<Option<u64>, OpenError> {
    let file = path.join("STORE_ID");
    durable_file::remove_torn(&file).map_err(io("cleaning", &file))?;
    let Some(bytes) = durable_file::read_if_there(&file).map_err(io("reading", &file))? else { return Ok(None) };
    parse_number(&bytes).map(Some).ok_or_else(|| lost(&file, "it is not a store id with its checksum"))
}

/// Gives a new folder its id.
fn found(path: &Path, store_id: u64) -> Result<u64, OpenError> {
    refuse_remains(path)?;
    let file = path.join("STORE_ID");
    durable_file::replace(&file, &[number_text(store_id).as_bytes()]).map_err(io("writing", &file))?;
    // The folder's own name, for the case that we have just created it.
    let parent = durable_file::parent_of(path);
    durable_file::sync_folder(parent).map_err(io("syncing", parent))?;
    Ok(store_id)
}

/// A backup is restored into a new folder.
fn refuse_content(path: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(path).map_err(io("listing", path))? {
        let name = entry.map_err(io("listing", path))?.file_name();
        // A disk of its own has the first from the start; the second is of the restore itself, or of one that was interrupted before
        // it had marked the folder.
        if name != "lost+found" && name != "LOCK" {
            return Err(OpenError::NotEmpty { folder: path.to_owned(), found: name.to_string_lossy().into_owned() });
        }
    }
    Ok(())
}

/// A folder without an id must hold nothing of ours: an id is written before anything else.
fn refuse_remains(path: &Path) -> Result<(), OpenError> {
    for name in ["log", "snapshots", "LOG_MADE", "ACKED", "SNAPSHOT"] {
        if path.join(name).exists() {
            return Err(lost(path, format!("it holds {name} and has lost its identity")));
        }
    }
    Ok(())
}
