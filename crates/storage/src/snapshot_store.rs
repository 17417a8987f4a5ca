//! Where snapshots live: the seam beside [`crate::LogEngine`]. A snapshot is written and read in pieces: it passes through memory
//! nowhere as a whole.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::{StorageError, snapshot_file};

/// Bytes of a piece, all but the last of a snapshot: large enough that a frame around it costs nothing, small enough that ten of
/// them are no memory.
pub const SNAPSHOT_PIECE_BYTES: usize = 256 << 10;

/// Keeps the latest snapshot. All methods block on the disk: call them where blocking is allowed.
pub trait SnapshotStore: Send + Sync + 'static {
    /// The latest snapshot that was saved; `None` if none ever was. An unreadable one is an error, never `None`. What it gives
    /// can be read as long as it is held, also when a later one has taken its place.
    fn latest(&self) -> Result<Option<Snapshot>, StorageError>;

    /// Begins a snapshot. It counts for nothing before [`SnapshotDraft::save`]; several may be written at a time.
    fn begin(&self, meta: &[u8]) -> Result<Box<dyn SnapshotDraft>, StorageError>;

    /// A snapshot that is small enough to be in memory, at once.
    fn save(&self, meta: &[u8], data: &[u8]) -> Result<Snapshot, StorageError> {
        let mut draft = self.begin(meta)?;
        draft.write(data)?;
        draft.save()
    }
}

/// A snapshot that is being written. Dropping it discards it. After an error it is of no use.
pub trait SnapshotDraft: Send {
    /// Adds to it. Bytes that are at rest already are made durable in steps, so that no single sync is long: one would hold up
    /// the log's, which shares the disk.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// How many bytes it has, and their checksum (CRC-32).
    fn written(&self) -> (u64, u32);

    /// Returns when the snapshot is durable and is what [`SnapshotStore::latest`] gives, also after a crash. On an error the
    /// latest one is the old or the new one, and complete.
    fn save(self: Box<Self>) -> Result<Snapshot, StorageError>;
}

/// A snapshot as it was saved. Cheap to clone.
#[derive(Clone)]
pub struct Snapshot {
    /// Opaque; small.
    pub meta: Bytes,
    bytes: u64,
    checksum: u32,
    source: Source,
}

/// Where the bytes are.
#[derive(Clone)]
enum Source {
    Memory(Bytes),
    File { file: Arc<File>, path: Arc<PathBuf>, first: u64 },
}

impl Snapshot {
    /// One that lies in memory, as in the simulation.
    pub(crate) fn in_memory(meta: Bytes, data: Bytes) -> Snapshot {
        Snapshot { meta, bytes: data.len() as u64, checksum: crc32fast::hash(&data), source: Source::Memory(data) }
    }

    /// One that lies in a file, whose first block is there.
    pub(crate) fn in_file(
        meta: Bytes,
        (bytes, checksum): (u64, u32),
        file: File,
        path: PathBuf,
        first: u64,
    ) -> Snapshot {
        let source = Source::File { file: Arc::new(file), path: Arc::new(path), first };
        Snapshot { meta, bytes, checksum, source }
    }

    /// How many bytes the state machine's part has.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of all of them, CRC-32.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// The piece that begins at a multiple of [`SNAPSHOT_PIECE_BYTES`], checked; empty at the end. Blocks on the disk.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`]: it is not what was written.
    pub fn piece(&self, at: u64) -> Result<Bytes, StorageError> {
        assert!(
            at.is_multiple_of(SNAPSHOT_PIECE_BYTES as u64),
            "a piece begins at a multiple of its size, not at {at}"
        );
        let length = self.bytes.saturating_sub(at).min(SNAPSHOT_PIECE_BYTES as u64) as usize;
        if length == 0 {
            return Ok(Bytes::new());
        }
        match &self.source {
            Source::Memory(data) => Ok(data.slice(at as usize..at as usize + length)),
            Source::File { file, path, first } => {
                let number = at / SNAPSHOT_PIECE_BYTES as u64;
                let mut block = BytesMut::zeroed(snapshot_file::BLOCK_HEAD + length);
                file.read_exact_at(&mut block, first + number * snapshot_file::BLOCK_BYTES)
                    .map_err(|error| snapshot_file::corrupt(path, error.to_string()))?;
                snapshot_file::check_block(number, &block).map_err(|why| snapshot_file::corrupt(path, why))?;
                Ok(block.freeze().slice(snapshot_file::BLOCK_HEAD..))
            }
        }
    }

    /// All pieces, in order, checked as a whole at the end. Ends with the first error. Blocks on the disk.
    pub fn pieces(&self) -> impl Iterator<Item = Result<Bytes, StorageError>> + use<> {
        let snapshot = self.clone();
        let (mut at, mut hasher, mut failed) = (0, crc32fast::Hasher::new(), false);
        std::iter::from_fn(move || {
            if failed || at >= snapshot.bytes {
                return None;
            }
            let piece = snapshot.piece(at).and_then(|piece| {
                at += piece.len() as u64;
                hasher.update(&piece);
                if at >= snapshot.bytes && hasher.clone().finalize() != snapshot.checksum {
                    return Err(StorageError::Corrupt {
                        what: "a snapshot: its pieces are not of one whole".to_owned(),
                    });
                }
                Ok(piece)
            });
            failed = piece.is_err();
            Some(piece)
        })
    }

    /// All of it in memory: for what is small, and for tests.
    pub fn whole(&self) -> Result<Bytes, StorageError> {
        let mut all = BytesMut::new();
        for piece in self.pieces() {
            all.extend_from_slice(&piece?);
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot of {} bytes, checksum {:08x}", self.bytes, self.checksum)
    }
}
