//! Files. What was written survives a power cut only after the file was synced, and its name only after its folder was: the
//! simulation forgets the rest when a process crashes.
//!
//! All methods block; call them within [`World::blocking`](crate::World::blocking), or where a pause for the disk is meant.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

/// A file system.
pub trait Files: Send + Sync + 'static {
    /// Opens a file for reading. It stays the same file when its name is given to another one.
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
    /// Opens a file for writing: a new one, or an old one emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
    /// Gives a file another name, in the place of whatever had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all that is in it. An error may leave some of it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder and those above it; that it is there already is fine.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder survive a power cut.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// What lies in a folder, in no particular order.
    fn list(&self, folder: &Path) -> io::Result<Vec<FolderEntry>>;
    /// What a name stands for; links are not followed.
    fn kind(&self, path: &Path) -> io::Result<FileKind>;
    /// Locks a file, creating it if needed, until the lock is dropped or its process ends; `None` if another holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>>;
}

/// A file as it was opened.
pub trait OpenFile: Send + Sync {
    /// Bytes that it has.
    fn length(&self) -> io::Result<u64>;
    /// Fills `bytes` from `offset` on; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes after what was written before.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written survives a power cut.
    fn sync(&self) -> io::Result<()>;
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// The name alone.
    pub name: OsString,
    /// What it stands for.
    pub kind: FileKind,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File {
        /// Its size.
        bytes: u64,
    },
    /// A folder.
    Folder,
    /// A link, a device or the like.
    Other,
}

/// Held until it is dropped.
pub struct FileLock(#[allow(dead_code)] Box<dyn Send + Sync>); // dropping it is its use

impl FileLock {
    /// Wraps what releases the lock when it is dropped.
    pub fn new(held: impl Send + Sync + 'static) -> FileLock {
        FileLock(Box::new(held))
    }
}

impl std::fmt::Debug for FileLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileLock")
    }
}

/// Creates a folder and those above it; returns when the new ones survive a power cut.
pub fn create_folder(files: &dyn Files, path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|at| files.kind(at).is_err()).collect();
    files.create_folder(path)?;
    missing.iter().rev().filter_map(|made| made.parent()).try_for_each(|parent| files.sync_folder(parent))
}

/// Replaces `path` so that after any crash it is the old file or the new one, complete; returns when it is the new one for
/// good. `temporary` is a name in the same folder that nobody else uses; an error or a crash may leave it behind.
pub fn replace(files: &dyn Files, path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = (|| {
        let mut file = files.create(temporary)?;
        file.write_all(bytes)?;
        file.sync()?;
        files.rename(temporary, path)
    })();
    if written.is_err() {
        // Best effort: nobody reads a left-over temporary file.
        let _ = files.remove_file(temporary);
    }
    written?;
    files.sync_folder(path.parent().unwrap_or(path))
}

/// The file, whole.
pub fn read(files: &dyn Files, path: &Path) -> io::Result<Vec<u8>> {
    let file = files.open(path)?;
    let length = usize::try_from(file.length()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The files of this machine.
#[derive(Clone, Copy, Debug)]
pub struct LocalFiles;

impl Files for LocalFiles {
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(fs::File::open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create(true).truncate(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<FolderEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) => entries.push(FolderEntry { name: entry.file_name(), kind: kind_of(&metadata) }),
                // Removed since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn kind(&self, path: &Path) -> io::Result<FileKind> {
        Ok(kind_of(&fs::symlink_metadata(path)?))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => Ok(Some(FileLock::new(held))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }
}

fn kind_of(metadata: &fs::Metadata) -> FileKind {
    match metadata.file_type() {
        kind if kind.is_file() => FileKind::File { bytes: metadata.len() },
        kind if kind.is_dir() => FileKind::Folder,
        _ => FileKind::Other,
    }
}

impl OpenFile for fs::File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}
