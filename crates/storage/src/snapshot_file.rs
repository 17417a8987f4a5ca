//! How a snapshot lies in its file: a head, blocks of one size, and an end that says how many bytes there are.
//!
//! ```text
//! PALISNAP  version  length of meta  checksum of meta  meta
//! length  checksum of place and bytes  bytes          (once for each piece)
//! 0       checksum of the rest  length of all  checksum of all
//! ```
//! Numbers are big-endian, checksums CRC-32. It knows nothing of folders and names.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use palisade_planted::{self as planted, Bug};

use crate::snapshot_store::SNAPSHOT_PIECE_BYTES;
use crate::{Snapshot, StorageError};

const MAGIC: &[u8; 8] = b"PALISNAP";
const VERSION: u8 = 2;
const HEAD_BYTES: usize = 8 + 1 + 4 + 4;
/// Before the bytes of a block.
pub(crate) const BLOCK_HEAD: usize = 4 + 4;
/// From one block to the next.
pub(crate) const BLOCK_BYTES: u64 = (BLOCK_HEAD + SNAPSHOT_PIECE_BYTES) as u64;
const END_BYTES: usize = BLOCK_HEAD + 8 + 4;

/// What is said of a snapshot in a file that holds none.
pub(crate) fn corrupt(path: &Path, why: impl Into<String>) -> StorageError {
    StorageError::Corrupt { what: format!("snapshot {}: {}", path.display(), why.into()) }
}

/// A file that is being written.
pub(crate) struct Writing {
    file: File,
    /// What is not a whole block yet.
    block: Vec<u8>,
    blocks: u64,
    bytes: u64,
    whole: crc32fast::Hasher,
    unsynced: usize,
}

/// So much is synced at a time: some milliseconds of a slow disk.
const STEP_BYTES: usize = 2 << 20;

impl Writing {
    pub(crate) fn begin(mut file: File, meta: &[u8]) -> io::Result<Writing> {
        let mut head = Vec::with_capacity(HEAD_BYTES + meta.len());
        head.extend_from_slice(MAGIC);
        head.push(VERSION);
        head.extend_from_slice(&(meta.len() as u32).to_be_bytes());
        head.extend_from_slice(&meta_checksum(meta).to_be_bytes());
        head.extend_from_slice(meta);
        file.write_all(&head)?;
        let block = Vec::with_capacity(SNAPSHOT_PIECE_BYTES);
        Ok(Writing { file, block, blocks: 0, bytes: 0, whole: crc32fast::Hasher::new(), unsynced: 0 })
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.whole.update(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SNAPSHOT_PIECE_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == SNAPSHOT_PIECE_BYTES {
                self.block_is_whole()?;
            }
        }
        Ok(())
    }

    pub(crate) fn written(&self) -> (u64, u32) {
        (self.bytes, self.whole.clone().finalize())
    }

    /// Writes the end, and returns when all of it is durable.
    pub(crate) fn end(mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.block_is_whole()?;
        }
        let (bytes, checksum) = self.written();
        let rest = [&bytes.to_be_bytes()[..], &checksum.to_be_bytes()].concat();
        let end = [&[0; 4][..], &crc32fast::hash(&rest).to_be_bytes(), &rest].concat();
        self.file.write_all(&end)?;
        self.file.sync_all()
    }

    fn block_is_whole(&mut self) -> io::Result<()> {
        let mut head = [0; BLOCK_HEAD];
        head[..4].copy_from_slice(&(self.block.len() as u32).to_be_bytes());
        head[4..].copy_from_slice(&block_checksum(self.blocks, &self.block).to_be_bytes());
        self.file.write_all(&head)?;
        self.file.write_all(&self.block)?;
        self.blocks += 1;
        self.unsynced += self.block.len();
        self.block.clear();
        if self.unsynced >= STEP_BYTES {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(())
    }
}

/// What a file says at its beginning and at its end. Its blocks are checked as they are read.
pub(crate) fn open(path: PathBuf) -> Result<Snapshot, StorageError> {
    open_file(path.clone()).map_err(|why| corrupt(&path, why))
}

/// As [`open`], for a file whose loss is no store's.
pub(crate) fn open_file(path: PathBuf) -> Result<Snapshot, String> {
    let (meta, whole, file) = read_ends(&path)?;
    let first = (HEAD_BYTES + meta.len()) as u64;
    Ok(Snapshot::in_file(meta, whole, file, path, first))
}

fn read_ends(path: &Path) -> Result<(Bytes, (u64, u32), File), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let read = |at: u64, bytes: usize| -> Result<BytesMut, String> {
        if at.checked_add(bytes as u64).is_none_or(|end| end > length) {
            return Err("it ends early".to_owned());
        }
        let mut all = BytesMut::zeroed(bytes);
        file.read_exact_at(&mut all, at).map_err(|error| error.to_string())?;
        Ok(all)
    };
    let head = read(0, HEAD_BYTES)?;
    if head[..8] != *MAGIC {
        return Err("it is not a snapshot of Palisade".to_owned());
    }
    if head[8] != VERSION {
        return Err(format!("it has format version {}, this program reads {VERSION}", head[8]));
    }
    let meta = read(HEAD_BYTES as u64, number(&head[9..13]) as usize)?.freeze();
    if u64::from(meta_checksum(&meta)) != number(&head[13..17]) {
        return Err("the checksum of its head is wrong".to_owned());
    }
    let first = (HEAD_BYTES + meta.len()) as u64;
    let end = length.checked_sub(END_BYTES as u64).filter(|end| *end >= first).ok_or("it ends early")?;
    let end_bytes = read(end, END_BYTES)?;
    let (head, rest) = end_bytes.split_at(BLOCK_HEAD);
    if number(&head[..4]) != 0 || number(&head[4..]) != u64::from(crc32fast::hash(rest)) {
        return Err("its end is not where it should be".to_owned());
    }
    let bytes = number(&rest[..8]);
    let blocks = bytes.div_ceil(SNAPSHOT_PIECE_BYTES as u64);
    let expected = blocks.checked_mul(BLOCK_HEAD as u64).and_then(|heads| heads.checked_add(bytes));
    if expected != Some(end - first) {
        return Err("its length is wrong".to_owned());
    }
    Ok((meta, (bytes, number(&rest[8..]) as u32), file))
}

/// Whether a block is the one that was written there.
pub(crate) fn check_block(place: u64, block: &[u8]) -> Result<(), &'static str> {
    let (head, bytes) = block.split_at(BLOCK_HEAD);
    if number(&head[..4]) != bytes.len() as u64 {
        return Err("a block has another length than it should");
    }
    if number(&head[4..]) != u64::from(block_checksum(place, bytes)) && !planted::is(Bug::SnapshotPieceUnchecked) {
        return Err("the checksum of a block is wrong");
    }
    Ok(())
}

fn block_checksum(place: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&place.to_be_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// The length goes in: a meta that was cut is another.
fn meta_checksum(meta: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(meta.len() as u64).to_be_bytes());
    hasher.update(meta);
    hasher.finalize()
}

/// Of at most eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
