//! A worker's durable guard: the highest accepted token of each (cluster, election), so that a worker that restarts still
//! refuses the leader it had seen replaced. It does not ask any election; whoever raises it has confirmed the token.
//!
//! ```text
//! version u8 | crc32 u32 | count u32 | { cluster u64 | token u64 | name length u16 | name } ...     big-endian
//! ```
//! It keeps true: a value that was given out or written never goes back.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::Flock;

use crate::data_folder::{io, lock, lost};
use crate::{GuardError, OpenError, durable_file};

/// The most guards of one file: a worker follows a few elections; clusters that it left stay in it for good.
pub const MAX_GUARDS: usize = 10_000;

/// An election's longest name in bytes, as everywhere.
const MAX_NAME_BYTES: usize = 255;

const VERSION: u8 = 1;

type Guards = BTreeMap<(u64, String), u64>;

/// The durable guard of one worker's folder. One process at a time.
#[derive(Debug)]
pub struct GuardFile {
    file: PathBuf,
    guards: Mutex<Guards>,
    _lock: Flock<File>,
}

impl GuardFile {
    /// Opens `folder/guard`, creating the folder if needed. A damaged file is an error: starting without it would admit
    /// leaders that were refused before.
    pub fn open(folder: impl AsRef<Path>) -> Result<GuardFile, OpenError> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(io("creating folder", folder))?;
        let lock = lock(folder, &folder.join("guard.lock"))?;
        let file = folder.join("guard");
        durable_file::remove_torn(&file).map_err(io("cleaning", &file))?;
        let guards = match durable_file::read_if_there(&file).map_err(io("reading", &file))? {
            Some(bytes) => decode(&bytes).ok_or_else(|| lost(&file, "it is not a guard file with its checksum"))?,
            None => Guards::new(),
        };
        Ok(GuardFile { file, guards: Mutex::new(guards), _lock: lock })
    }

    /// The highest accepted token; `None` if none was accepted yet.
    pub fn get(&self, cluster: u64, election: &str) -> Option<u64> {
        self.lock().get(&(cluster, election.to_owned())).copied()
    }

    /// All guards, in order.
    pub fn all(&self) -> Vec<(u64, String, u64)> {
        self.lock().iter().map(|((cluster, election), token)| (*cluster, election.clone(), *token)).collect()
    }

    /// Raises a guard and returns when that is durable; raising to where it stands does nothing. Blocks on the disk.
    pub fn raise(&self, cluster: u64, election: &str, token: u64) -> Result<(), GuardError> {
        if election.len() > MAX_NAME_BYTES {
            return Err(GuardError::Limit { what: "bytes of an election's name", limit: MAX_NAME_BYTES });
        }
        // Held while writing: two writers would otherwise rename an older state over a newer one.
        let mut guards = self.lock();
        let key = (cluster, election.to_owned());
        match guards.get(&key) {
            Some(current) if *current > token => {
                return Err(GuardError::Stale { election: key.1, current: *current, offered: token });
            }
            Some(current) if *current == token => return Ok(()),
            None if guards.len() >= MAX_GUARDS => {
                return Err(GuardError::Limit { what: "guards of one worker", limit: MAX_GUARDS });
            }
            Some(_) | None => {}
        }
        let mut raised = guards.clone();
        raised.insert(key, token);
        durable_file::replace(&self.file, &[&encode(&raised)])
            .map_err(|source| GuardError::Io { path: self.file.clone(), source })?;
        *guards = raised;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Guards> {
        // Replaced in one step after the write: a panic elsewhere leaves it right.
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(guards: &Guards) -> Vec<u8> {
    let mut body = Vec::new();
    let count = u32::try_from(guards.len()).expect("MAX_GUARDS is far below 2^32");
    body.extend_from_slice(&count.to_be_bytes());
    for ((cluster, election), token) in guards {
        let length = u16::try_from(election.len()).expect("names are limited when a guard is raised");
        body.extend_from_slice(&cluster.to_be_bytes());
        body.extend_from_slice(&token.to_be_bytes());
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
        guards.insert((u64::from_be_bytes(*cluster), name), u64::from_be_bytes(*token));
        rest = after;
    }
    rest.is_empty().then_some(guards)
}
