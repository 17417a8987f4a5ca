//! How far callbacks have gone, beside sled: the number of the last group whose sync returned.
//!
//! sled takes the first message with a wrong checksum for the end of its log, so damage near the end would silently
//! shorten it, vote included. Each group's number is written into sled with the group, and here after its sync and before
//! its callbacks. A store whose group is below this mark has lost what was acknowledged. (That the entries of a group are
//! there too is what `sled_log::End` is for.)
//!
//! It is not synced with each group: it is only ever too low (after a power cut), which weakens the check and breaks
//! nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::OpenError;
use crate::data_folder::{io as io_error, lost};

/// group u64 | crc32 u32, big-endian: overwritten in place, within one sector, so never torn.
const BYTES: usize = 12;

/// The file `ACKED`.
#[derive(Debug)]
pub(crate) struct AckedMark {
    file: File,
    group: u64,
}

impl AckedMark {
    /// A new one, durable, at 0. The caller syncs the folder.
    pub(crate) fn create(path: &Path) -> Result<AckedMark, OpenError> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let file = file.map_err(io_error("creating", path))?;
        file.write_all_at(&encode(0), 0).and_then(|()| file.sync_all()).map_err(io_error("writing", path))?;
        Ok(AckedMark { file, group: 0 })
    }

    /// Opens the one that was created with the log.
    pub(crate) fn open(path: &Path) -> Result<AckedMark, OpenError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(lost(path, "it is gone")),
            opened => opened.map_err(io_error("opening", path))?,
        };
        let length = file.metadata().map_err(io_error("reading", path))?.len();
        let mut bytes = [0; BYTES];
        let read = file.read_exact_at(&mut bytes, 0);
        match (read, parse(&bytes)) {
            (Ok(()), Some(group)) if length == BYTES as u64 => Ok(AckedMark { file, group }),
            (Ok(()) | Err(_), _) => Err(lost(path, "it is not a mark with its checksum")),
        }
    }

    /// The last group that was acknowledged.
    pub(crate) fn group(&self) -> u64 {
        self.group
    }

    /// Moves it, after the group's sync and before its callbacks.
    pub(crate) fn set(&mut self, group: u64) -> io::Result<()> {
        assert!(group > self.group, "groups are numbered upwards");
        self.file.write_all_at(&encode(group), 0)?;
        self.group = group;
        Ok(())
    }
}

fn encode(group: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&group.to_be_bytes());
    let checksum = crc32fast::hash(&bytes[..8]);
    bytes[8..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn parse(bytes: &[u8; BYTES]) -> Option<u64> {
    let group = u64::from_be_bytes(bytes[..8].try_into().ok()?);
    (encode(group) == *bytes).then_some(group)
}
