//! A worker's durable guard: the highest accepted token of each (cluster, election), so that a worker that restarts still
//! refuses the leader it had seen replaced. It does not ask any election; whoever raises it has confirmed the token.
//!
//! ```text
//! version u8 | crc32 u32 | count u32 | { cluster u64 | token u64 | name length u16 | name } ...     big-endian
//! ```
//! It keeps true: a value that was given out or written never goes back.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_fence::{ClusterId, DurableGuard, DurableGuardError, Token};
use palisade_world::files::{self, FileLock, Files};

/// The most guards of one file: a worker follows a few elections; clusters that it left stay in it for good.
const GUARDS_MAX: usize = 10_000;

/// An election's longest name in bytes, as everywhere.
const NAME_BYTES_MAX: usize = 255;

const VERSION: u8 = 1;

type Guards = BTreeMap<(u64, String), Token>;

/// A guard file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum GuardFileError {
    /// Another process works with this folder.
    #[error("{folder} is used by another process")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// What is there is not what was written. Starting without it would admit leaders that were refused before.
    #[error("{path} is damaged: it is not a guard file with its checksum")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The file system says no.
    #[error("{what} {path}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        error: io::Error,
    },
}

/// The durable guard of one worker's folder. One process at a time. Its methods block on the disk.
pub struct GuardFile {
    files: Arc<dyn Files>,
    path: PathBuf,
    guards: Mutex<Guards>,
    _lock: FileLock,
}

impl GuardFile {
    /// Opens `folder/guard`, creating the folder if needed.
    pub fn open(files: Arc<dyn Files>, folder: &Path) -> Result<GuardFile, GuardFileError> {
        let folder = &std::path::absolute(folder).map_err(failed("opening", folder))?;
        files::create_folder(&*files, folder).map_err(failed("creating", folder))?;
        let lock = files.lock(&folder.join("guard.lock")).map_err(failed("locking", folder))?;
        let lock = lock.ok_or_else(|| GuardFileError::InUse { folder: folder.to_owned() })?;
        let path = folder.join("guard");
        let guards = match files::read(&*files, &path) {
            Ok(bytes) => decode(&bytes).ok_or_else(|| GuardFileError::Damaged { path: path.clone() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Guards::new(),
            Err(error) => return Err(failed("reading", &path)(error)),
        };
        Ok(GuardFile { files, path, guards: Mutex::new(guards), _lock: lock })
    }

    fn lock(&self) -> MutexGuard<'_, Guards> {
        // Replaced in one step after the write: a panic elsewhere leaves it right.
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DurableGuard for GuardFile {
    fn load(&self, cluster: ClusterId, election: &str) -> Result<Option<Token>, DurableGuardError> {
        Ok(self.lock().get(&(cluster.0, election.to_owned())).copied())
    }

    fn raise(&self, cluster: ClusterId, election: &str, token: Token) -> Result<(), DurableGuardError> {
        let refused = |why: String| Err(DurableGuardError { why });
        if election.len() > NAME_BYTES_MAX {
            return refused(format!("an election's name has at most {NAME_BYTES_MAX} bytes"));
        }
        // Held while writing: two writers would otherwise rename an older state over a newer one.
        let mut guards = self.lock();
        match guards.get(&(cluster.0, election.to_owned())) {
            Some(current) if *current > token => {
                return refused(format!("it stands at {current}, above {token}; it never goes back"));
            }
            Some(current) if *current == token => return Ok(()),
            None if guards.len() >= GUARDS_MAX => return refused(format!("a worker has at most {GUARDS_MAX}")),
            Some(_) | None => {}
        }
        let mut raised = guards.clone();
        raised.insert((cluster.0, election.to_owned()), token);
        // An error leaves the old guard or the new one on disk, and the old one here: higher on disk is the safe side.
        files::replace(&*self.files, &self.path, &self.path.with_extension("tmp"), &encode(&raised))
            .map_err(|error| DurableGuardError { why: format!("writing {}: {error}", self.path.display()) })?;
        *guards = raised;
        Ok(())
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GuardFileError {
    move |error| GuardFileError::Io { what, path: path.to_owned(), error }
}

fn encode(guards: &Guards) -> Vec<u8> {
    let mut body = Vec::new();
    let count = u32::try_from(guards.len()).expect("GUARDS_MAX is far below 2^32");
    body.extend_from_slice(&count.to_be_bytes());
    for ((cluster, election), token) in guards {
        let length = u16::try_from(election.len()).expect("names are limited when a guard is raised");
        body.extend_from_slice(&cluster.to_be_bytes());
        body.extend_from_slice(&token.get().to_be_bytes());
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(election.as_bytes());
    }
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Guards> {
    let (header, body) = bytes.split_first_chunk::<5>()?;
    if header[0] != VERSION || header[1..] != crc32fast::hash(body).to_be_bytes() {
        return None;
    }
    let (count, mut rest) = body.split_first_chunk::<4>()?;
    let mut guards = Guards::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (cluster, after) = rest.split_first_chunk::<8>()?;
        let (token, after) = after.split_first_chunk::<8>()?;
        let (length, after) = after.split_first_chunk::<2>()?;
        let (name, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        guards.insert((u64::from_be_bytes(*cluster), name), Token::from_wire(u64::from_be_bytes(*token))?);
        rest = after;
    }
    rest.is_empty().then_some(guards)
}
