//! A backup: a snapshot that left its data folder. The same blocks and checksums as there (see `snapshot_file`), in a file that
//! people name, move and keep.
//!
//! It knows nothing of what is in the file. It keeps true: a file has the name that it was asked for only if it is whole and on the
//! disk; and nothing that is there already is ever replaced.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::O_NOFOLLOW;

use crate::snapshot_file::{self, Writing};
use crate::{Snapshot, durable_file};

/// Why a backup was not written, or cannot be read. No store is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file of that name is there. It was not touched.
    #[error("{path} exists already: a backup replaces nothing")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else is writing a backup to that name. It was not touched.
    #[error("another backup is being written to {path}")]
    BeingWritten {
        /// The file that is to be.
        path: PathBuf,
    },
    /// It is not what was written: damaged, cut short, or of a version that this program does not read.
    #[error("{path} cannot be used as a backup: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// A backup that is being written, under a temporary name beside its own. Dropping it discards it. Blocks on the disk.
pub struct BackupFile {
    path: PathBuf,
    /// Ours for as long as the lock is held, and the name is: nobody else writes to it, removes it or gives it the backup's name.
    temporary: PathBuf,
    /// `None`: the temporary name is ours no more.
    lock: Option<Flock<File>>,
    /// `None`: it has failed, or is done.
    writing: Option<Writing>,
}

impl BackupFile {
    /// Begins one. `meta` is opaque and small.
    ///
    /// # Errors
    /// [`BackupError::Exists`]; [`BackupError::BeingWritten`]: there is room for one at a time under a name.
    pub fn create(path: impl AsRef<Path>, meta: &[u8]) -> Result<BackupFile, BackupError> {
        let path = path.as_ref().to_owned();
        if fs::symlink_metadata(&path).is_ok() {
            return Err(BackupError::Exists { path });
        }
        let Some(name) = path.file_name() else {
            let source = io::Error::new(ErrorKind::InvalidInput, "it names no file");
            return Err(BackupError::Io { action: "creating", path, source });
        };
        let mut temporary = name.to_owned();
        temporary.push(".unfinished");
        let temporary = path.with_file_name(temporary);
        let failed = |source| BackupError::Io { action: "creating", path: temporary.clone(), source };
        let Some(lock) = take(&temporary).map_err(failed)? else { return Err(BackupError::BeingWritten { path }) };
        let begun = lock.try_clone().and_then(|file| Writing::begin(file, meta));
        match begun {
            Ok(writing) => Ok(BackupFile { path, temporary, lock: Some(lock), writing: Some(writing) }),
            Err(source) => {
                let failed = failed(source);
                let _ = fs::remove_file(&temporary);
                Err(failed)
            }
        }
    }

    /// Adds to it; synced in steps.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let writing = self.writing.as_mut().expect("after an error it is not used any more");
        let written = writing.write(bytes);
        written.map_err(|source| BackupError::Io { action: "writing", path: self.temporary.clone(), source })
    }

    /// How many bytes it has, and their checksum (CRC-32).
    pub fn written(&self) -> (u64, u32) {
        self.writing.as_ref().map_or((0, 0), Writing::written)
    }

    /// Returns when the backup has its name, and is on the disk with it.
    pub fn save(mut self) -> Result<Snapshot, BackupError> {
        let writing = self.writing.take().expect("it is saved once");
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| BackupError::Io { action, path, source }
        };
        writing.end().map_err(failed("syncing", &self.temporary))?;
        name_it(&self.temporary, &self.path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => BackupError::Exists { path: self.path.clone() },
            _ => failed("naming", &self.path)(error),
        })?;
        // From here on a file of the temporary name is somebody else's.
        self.lock = None;
        let folder = durable_file::parent_of(&self.path);
        durable_file::sync_folder(folder).map_err(failed("syncing", folder))?;
        open(&self.path)
    }
}

impl Drop for BackupFile {
    fn drop(&mut self) {
        // One that was saved has another name by now. Removed before the lock is given up.
        if self.lock.is_some() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Makes a temporary name ours alone, with whatever file is there; `None` if somebody else has it. Two that write one backup each would
/// else remove each other's file, and name one that the other has only begun.
fn take(temporary: &Path) -> io::Result<Option<Flock<File>>> {
    loop {
        let mut options = File::options();
        options.write(true).custom_flags(O_NOFOLLOW);
        let (file, is_new) = match options.clone().create_new(true).open(temporary) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match options.open(temporary) {
                Ok(file) => (file, false),
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno.into()),
        };
        let ours = lock.metadata()?;
        // Whoever had the lock before may have given the file its name, or removed it, after we opened it.
        match fs::symlink_metadata(temporary) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                if is_new {
                    return Ok(Some(lock));
                }
                // Left by a program that was killed: of no use to anybody under this name. Not to be written to, for it may be a
                // finished backup that has its own name as well.
                fs::remove_file(temporary)?;
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Gives a file its name, unless that is taken. A rename would replace what somebody else put there meanwhile; a second name does not.
fn name_it(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        Ok(()) => fs::remove_file(temporary),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        // Some file systems have no second names.
        Err(_) if fs::symlink_metadata(path).is_ok() => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(temporary, path),
    }
}

/// Opens a backup. Its ends are checked here, its blocks as they are read.
pub fn open(path: impl AsRef<Path>) -> Result<Snapshot, BackupError> {
    let path = path.as_ref();
    match File::open(path) {
        Ok(_) => snapshot_file::open_file(path.to_owned()),
        Err(source) => return Err(BackupError::Io { action: "opening", path: path.to_owned(), source }),
    }
    .map_err(|why| BackupError::Unreadable { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SNAPSHOT_PIECE_BYTES;

    fn written(folder: &Path, bytes: usize) -> PathBuf {
        let path = folder.join("b");
        let mut file = BackupFile::create(&path, b"meta").unwrap();
        for part in vec![7; bytes].chunks(1_000) {
            file.write(part).unwrap();
        }
        assert_eq!(file.written().0, bytes as u64);
        file.save().unwrap();
        path
    }

    #[test]
    fn what_was_left_under_the_temporary_name_is_never_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 10_000);
        // Killed between giving it its name and taking the other away; then somebody moved it.
        fs::hard_link(&path, folder.path().join("b.unfinished")).unwrap();
        let archived = folder.path().join("archived");
        fs::rename(&path, &archived).unwrap();
        assert_eq!(read(&written(folder.path(), 20)), Ok(20));
        assert_eq!(read(&archived), Ok(10_000));
        assert!(!folder.path().join("b.unfinished").exists());
    }

    fn read(path: &Path) -> Result<usize, String> {
        let snapshot = open(path).map_err(|error| error.to_string())?;
        let pieces = snapshot.pieces().map(|piece| piece.map_err(|error| error.to_string()));
        pieces.map(|piece| piece.map(|piece| piece.len())).sum()
    }

    #[test]
    fn what_is_read_is_what_was_written_and_nothing_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), SNAPSHOT_PIECE_BYTES + 10);
        assert_eq!(read(&path), Ok(SNAPSHOT_PIECE_BYTES + 10));
        assert_eq!(&open(&path).unwrap().meta[..], b"meta");
        assert!(matches!(BackupFile::create(&path, b""), Err(BackupError::Exists { .. })));
        // Somebody was faster.
        let late = BackupFile::create(folder.path().join("late"), b"").unwrap();
        fs::write(folder.path().join("late"), b"theirs").unwrap();
        assert!(matches!(late.save(), Err(BackupError::Exists { .. })));
        assert_eq!(fs::read(folder.path().join("late")).unwrap(), b"theirs");
        drop(BackupFile::create(folder.path().join("given-up"), b"").unwrap());
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["b", "late"], "nothing unfinished stays");
    }

    #[test]
    fn two_that_write_to_one_name_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        let mut first = BackupFile::create(&path, b"meta").unwrap();
        first.write(&[7; 1_000]).unwrap();
        let second = BackupFile::create(&path, b"meta").map(drop).unwrap_err();
        assert!(matches!(second, BackupError::BeingWritten { .. }), "{second}");
        first.write(&[7; 1_000]).unwrap();
        first.save().unwrap();
        assert_eq!(read(&path), Ok(2_000), "all of it, and of nobody else's");
        // What a program that was killed has left is nobody's, however long it is.
        let other = folder.path().join("other");
        fs::write(folder.path().join("other.unfinished"), [1; 10_000]).unwrap();
        BackupFile::create(&other, b"meta").unwrap().save().unwrap();
        assert_eq!(read(&other), Ok(0));
    }

    /// One that is done leaves the next one's file alone, and so does one that gives up.
    #[test]
    fn the_temporary_name_belongs_to_whoever_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        let first = BackupFile::create(&path, b"").unwrap();
        drop(first);
        let next = BackupFile::create(&path, b"").unwrap();
        assert!(folder.path().join("b.unfinished").exists());
        next.save().unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        drop(BackupFile::create(&path, b"").unwrap());
        assert!(!path.exists() && !folder.path().join("b.unfinished").exists());
    }

    #[test]
    fn a_damaged_or_truncated_backup_is_told_wherever_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), SNAPSHOT_PIECE_BYTES + 10);
        let whole = fs::read(&path).unwrap();
        for at in [0, 8, 12, 18, 30, 1_000, SNAPSHOT_PIECE_BYTES, whole.len() - 40, whole.len() - 10, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(read(&path).is_err(), "byte {at} was changed");
        }
        for length in [0, 5, 20, 100, SNAPSHOT_PIECE_BYTES, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path).is_err(), "cut to {length} bytes");
        }
        let mut newer = whole;
        newer[8] += 1;
        fs::write(&path, &newer).unwrap();
        assert!(read(&path).unwrap_err().contains("it has format version 3, this program reads 2"));
    }
}
