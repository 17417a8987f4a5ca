//! Backup and restore: a state on its way out of a running node, and into the folder of a new one.
//!
//! A backup is the bytes of a snapshot, behind a head that says what they are of. Restoring puts those bytes into a new folder as they
//! are; what a restore makes of the state (a new generation, nobody's session, nobody's leadership) is made by the first node of the
//! new cluster when that is formed, once, and the others get it from there. So it does not matter when and how often a backup is
//! restored into the folders of one cluster: each brings the same bytes, and the lowest generation that it allows.
//!
//! Keeps true: neither side has all of it in memory as bytes; what a backup holds was applied at one moment, which is not before
//! the call; and nothing that cannot be read to its end, checked, ever becomes a node's folder.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use palisade_coord_core::generation::{self, BadGeneration};
use palisade_coord_core::{Frozen, State, level};
use palisade_replica::{Restored, restored_head};
use palisade_storage::{
    BackupError, DataFolder, FileSnapshots, OpenError, Snapshot, SnapshotStore, StorageError, backup_file,
};
use palisade_wire::coord::v1::snapshot_part::Part;
use palisade_wire::coord::v1::{BackupHead, Header, SnapshotEnd, SnapshotPart, SnapshotPiece};
use palisade_wire::{WireError, convert, state};
use palisade_world::World;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::build_info;
use crate::machine::Downgrade;

/// Backups of a node at a time. Each keeps what it is of in memory for as long as it lasts.
pub(crate) const AT_ONCE: usize = 2;

/// Pieces on their way: enough that neither the task that writes nor the connection waits for the other for long.
const PIECES: usize = 4;

/// How long a client may take nothing before its backup ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// The parts of a backup.
pub(crate) type Parts = Pin<Box<dyn Stream<Item = Result<SnapshotPart, Status>> + Send>>;

/// Places for backups.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Semaphore>);

impl Places {
    pub(crate) fn new() -> Places {
        Places(Arc::new(Semaphore::new(AT_ONCE)))
    }

    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// The parts of a backup. `place` is given back when the last is taken, or nobody takes any more.
///
/// A task makes them, one when the one before is on its way: it waits for the client, never for the disk, so it needs no thread of its
/// own.
pub(crate) fn parts(frozen: Frozen, header: Header, place: OwnedSemaphorePermit, world: &World) -> Parts {
    let head =
        BackupHead { header: Some(header), version: build_info::VERSION.to_owned(), saved_unix_ms: world.unix_ms() };
    let (to, given) = mpsc::channel(PIECES);
    let mut outgoing = Outgoing { to, world: world.clone(), bytes: 0, whole: crc32fast::Hasher::new() };
    let writing = async move {
        let _place = place;
        // Whoever does not take the rest knows.
        let _: Result<(), Gone> = outgoing.all(head, &frozen).await;
    };
    world.spawn("writing a backup", writing).detach();
    Box::pin(ReceiverStream::new(given))
}

/// A backup on its way to its client.
struct Outgoing {
    to: mpsc::Sender<Result<SnapshotPart, Status>>,
    world: World,
    /// Of the state, so far.
    bytes: u64,
    /// Likewise.
    whole: crc32fast::Hasher,
}

/// Nobody takes the rest.
struct Gone;

impl Outgoing {
    async fn all(&mut self, head: BackupHead, frozen: &Frozen) -> Result<(), Gone> {
        self.give(Part::Head(head.encode_to_vec())).await?;
        state::write_to(frozen, self).await?;
        let end = SnapshotEnd { bytes: self.bytes, crc32: self.whole.clone().finalize() };
        self.give(Part::End(end)).await
    }

    async fn give(&self, part: Part) -> Result<(), Gone> {
        let given = self.to.send(Ok(SnapshotPart { part: Some(part) }));
        match self.world.timeout(PATIENCE, given).await {
            Some(given) => given.map_err(|_| Gone),
            None => {
                tracing::info!("a backup was ended: its client took nothing for {PATIENCE:?}");
                Err(Gone)
            }
        }
    }
}

impl state::Take for Outgoing {
    type Error = Gone;

    async fn take(&mut self, piece: &[u8]) -> Result<(), Gone> {
        self.bytes += piece.len() as u64;
        self.whole.update(piece);
        let piece = SnapshotPiece { crc32: crc32fast::hash(piece), data: piece.to_vec() };
        self.give(Part::Piece(piece)).await
    }
}

/// Why a backup cannot be used, or was not restored.
#[derive(Debug)]
pub enum RestoreError {
    /// The file.
    File(BackupError),
    /// What is in it.
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The folder, which is not a store.
    Folder(OpenError),
    /// Writing into the folder.
    Write(StorageError),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::File(error) => error.fmt(f),
            RestoreError::Content { path, why } => write!(f, "{path} cannot be used as a backup: {why}"),
            RestoreError::Folder(error) => error.fmt(f),
            RestoreError::Write(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {}

/// A backup that was read to its end, and is sound.
pub struct Backup {
    path: String,
    snapshot: Snapshot,
    /// What it says that it is of.
    pub head: BackupHead,
    /// What is in it.
    pub state: State,
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backup {} at seq {}", self.path, self.state.seq())
    }
}

impl Backup {
    /// Reads all of a file. Blocks on the disk.
    ///
    /// # Errors
    /// [`RestoreError::File`], [`RestoreError::Content`]: it is damaged, cut short, or newer than this program.
    pub fn open(path: &Path) -> Result<Backup, RestoreError> {
        Backup::open_knowing(level::KNOWN, path)
    }

    /// As a program of another version would, for tests.
    pub fn open_knowing(known: u32, path: &Path) -> Result<Backup, RestoreError> {
        Backup::of(known, path.display().to_string(), backup_file::open(path).map_err(RestoreError::File)?)
    }

    /// The same of what lies in `snapshot`; `path` is what it is called.
    ///
    /// # Errors
    /// [`RestoreError::Content`]
    pub fn of(known: u32, path: String, snapshot: Snapshot) -> Result<Backup, RestoreError> {
        let bad = |why: String| RestoreError::Content { path: path.clone(), why };
        let head = state::backup_head_from(&snapshot.meta).map_err(|error| bad(error.to_string()))?;
        let state = state_of(&snapshot).map_err(|error| bad(error.to_string()))?;
        if !is_of(head.header.as_ref(), &convert::header(&state)) {
            return Err(bad("its head is of another state than it holds".to_owned()));
        }
        if state.cluster().is_none() {
            return Err(bad("it is of no cluster".to_owned()));
        }
        if state.level() > known {
            return Err(bad(Downgrade { at: state.level(), known }.to_string()));
        }
        Ok(Backup { path, snapshot, head, state })
    }

    /// How many bytes the state has, and their checksum.
    pub fn written(&self) -> (u64, u32) {
        (self.snapshot.bytes(), self.snapshot.checksum())
    }

    /// The generation of a restore: above the backup's, at least `asked`, and at least the seconds since 2025 on the wall clock, so that
    /// restoring the same backup twice gives two.
    pub fn generation(&self, asked: Option<u32>, now_unix_ms: u64) -> u32 {
        generation::of_restore(self.state.generation(), asked, now_unix_ms)
    }

    /// What may let tokens go back although this restore is made as it should be, in words. The generation is the seconds of a clock
    /// because that rises by itself; where it does not, somebody must see to it.
    pub fn warnings(&self, asked: Option<u32>, now_unix_ms: u64) -> Vec<String> {
        warnings(asked, now_unix_ms, self.head.saved_unix_ms)
    }

    /// What a cluster begins with that begins with this backup in that generation.
    ///
    /// # Errors
    /// There is no such generation, or it is not above the backup's.
    pub fn begun(&self, generation: u32, now_unix_ms: u64) -> Result<State, BadGeneration> {
        let mut state = self.state.clone();
        state.begin_generation(generation, now_unix_ms)?;
        Ok(state)
    }

    /// Puts it into a new folder, for a first node of a new cluster of at least this generation. When it returns, the folder is on the
    /// disk; after an error or a crash the folder is refused by whoever opens it. Blocks on the disk.
    pub fn restore(&self, folder: &Path, store_id: u64, generation: u32) -> Result<(), RestoreError> {
        let folder = DataFolder::begin_restore(folder, store_id).map_err(RestoreError::Folder)?;
        self.restore_into(&FileSnapshots::open(&folder).map_err(RestoreError::Folder)?, generation)?;
        folder.restored().map_err(RestoreError::Folder)
    }

    /// The same, into the snapshots of a store that is new and that nobody opens meanwhile.
    pub fn restore_into(&self, snapshots: &dyn SnapshotStore, generation: u32) -> Result<(), RestoreError> {
        let (bytes, crc32) = self.written();
        let cluster = self.state.cluster().unwrap_or_default().0;
        let (seq, level) = (self.state.seq().get(), self.state.level());
        let restored = Restored { cluster, generation, seq, bytes, crc32, level };
        let mut draft = snapshots.begin(&restored_head(&restored)).map_err(RestoreError::Write)?;
        for piece in self.snapshot.pieces() {
            let bad = |error| RestoreError::Content { path: self.path.clone(), why: why(error) };
            draft.write(&piece.map_err(bad)?).map_err(RestoreError::Write)?;
        }
        draft.save().map(drop).map_err(RestoreError::Write)
    }
}

fn warnings(asked: Option<u32>, now_unix_ms: u64, saved_unix_ms: u64) -> Vec<String> {
    let clock = generation::of_clock(now_unix_ms);
    let ahead = asked.filter(|asked| *asked > clock).map(|asked| {
        format!(
            "generation {asked} is above what the clock gives now ({clock}): from now on every restore of a backup that was saved before \
             this cluster needs a --generation above {asked}, or tokens go back"
        )
    });
    let behind = (now_unix_ms < saved_unix_ms).then(|| {
        format!(
            "the clock of this machine is {} s before the moment at which the backup was saved: name a --generation above all that the \
             cluster ever had, or tokens may go back",
            (saved_unix_ms - now_unix_ms).div_ceil(1_000)
        )
    });
    ahead.into_iter().chain(behind).collect()
}

/// Whether a backup's head is of that state. By name and not as a whole: a newer program may have said more in it.
fn is_of(head: Option<&Header>, state: &Header) -> bool {
    let named = |header: &Header| (header.cluster_id, header.generation, header.seq, header.revision);
    head.is_some_and(|head| named(head) == named(state))
}

/// The state in the bytes of a snapshot, whose checksums are compared on the way.
pub(crate) fn state_of(saved: &Snapshot) -> Result<State, Unreadable> {
    let mut reading = state::Reading::new();
    for piece in saved.pieces() {
        reading.take(&piece.map_err(Unreadable::Storage)?).map_err(Unreadable::Wire)?;
    }
    reading.finish().map_err(Unreadable::Wire)
}

/// No state is in it.
pub(crate) enum Unreadable {
    Storage(StorageError),
    Wire(WireError),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Storage(error) => f.write_str(&why_of(error)),
            Unreadable::Wire(error) => error.fmt(f),
        }
    }
}

fn why(error: StorageError) -> String {
    why_of(&error)
}

/// Without what a damaged file would mean for a node: nobody's store is lost with a backup.
fn why_of(error: &StorageError) -> String {
    match error {
        StorageError::Corrupt { what } => what.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_compared_by_what_it_names() {
        let state = Header { cluster_id: 7, generation: 3, seq: 9, revision: 4 };
        assert!(is_of(Some(&state), &state));
        assert!(!is_of(None, &state));
        let others = [
            Header { cluster_id: 8, ..state },
            Header { generation: 4, ..state },
            Header { seq: 10, ..state },
            Header { revision: 5, ..state },
        ];
        for other in others {
            assert!(!is_of(Some(&other), &state), "{other:?}");
        }
    }

    #[test]
    fn whoever_restores_is_warned_where_tokens_may_go_back() {
        let (now, second) = (1_800_000_000_000, 1_000);
        let clock = generation::of_clock(now);
        for quiet in [None, Some(1), Some(clock)] {
            assert_eq!(warnings(quiet, now, now - second), Vec::<String>::new());
        }
        let ahead = warnings(Some(clock + 1), now, now);
        assert!(matches!(&ahead[..], [one] if one.contains("above what the clock gives now")), "{ahead:?}");
        let behind = warnings(None, now, now + 1);
        assert!(matches!(&behind[..], [one] if one.contains("is 1 s before the moment")), "{behind:?}");
        assert_eq!(warnings(Some(clock + 1), now, now + 1).len(), 2);
    }
}
