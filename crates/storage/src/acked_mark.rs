//! How far callbacks have gone, beside sled: the number of the last group of metadata whose sync returned, and where the chain
//! of records ended then.
//!
//! sled takes the first message with a wrong checksum for the end of its log, so damage near the end would silently
//! shorten it, vote included. Both are written here after a sync and before its callbacks. A store whose group is below this
//! mark, or whose log does not reach the mark's end although no later metadata can have shortened it, has lost what was
//! acknowledged.
//!
//! It is not synced with each write: it is only ever too low (after a power cut), which weakens the check and breaks
//! nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::OpenError;
use crate::data_folder::{io as io_error, lost};
use crate::sled_log::End;

/// group u64 | whether there is an end u8 | its index u64 | its checksum u32 | crc32 u32, big-endian: overwritten in place, within
/// one sector, so never torn.
const BYTES: usize = 8 + 1 + 8 + 4 + 4;

/// What was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Acked {
    /// The last group of metadata.
    pub(crate) group: u64,
    /// The last record of the log.
    pub(crate) end: End,
}

/// The file `ACKED`.
#[derive(Debug)]
pub(crate) struct AckedMark {
    file: File,
    acked: Acked,
}

impl AckedMark {
    /// A new one, durable, of nothing. The caller syncs the folder.
    pub(crate) fn create(path: &Path) -> Result<AckedMark, OpenError> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let file = file.map_err(io_error("creating", path))?;
        file.write_all_at(&encode(Acked::default()), 0)
            .and_then(|()| file.sync_all())
            .map_err(io_error("writing", path))?;
        Ok(AckedMark { file, acked: Acked::default() })
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
            (Ok(()), Some(acked)) if length == BYTES as u64 => Ok(AckedMark { file, acked }),
            (Ok(()) | Err(_), _) => Err(lost(path, "it is not a mark with its checksum")),
        }
    }

    /// What was acknowledged last.
    pub(crate) fn acked(&self) -> Acked {
        self.acked
    }

    /// Moves it, after a sync and before the callbacks that it covers.
    pub(crate) fn set(&mut self, acked: Acked) -> io::Result<()> {
        assert!(acked.group >= self.acked.group, "groups are numbered upwards");
        if acked != self.acked {
            self.file.write_all_at(&encode(acked), 0)?;
            self.acked = acked;
        }
        Ok(())
    }
}

fn encode(acked: Acked) -> [u8; BYTES] {
    let (index, checksum) = acked.end.unwrap_or_default();
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&acked.group.to_be_bytes());
    bytes[8] = acked.end.is_some().into();
    bytes[9..17].copy_from_slice(&index.to_be_bytes());
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    let checksum = crc32fast::hash(&bytes[..21]);
    bytes[21..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn parse(bytes: &[u8; BYTES]) -> Option<Acked> {
    let group = u64::from_be_bytes(bytes[..8].try_into().ok()?);
    let index = u64::from_be_bytes(bytes[9..17].try_into().ok()?);
    let checksum = u32::from_be_bytes(bytes[17..21].try_into().ok()?);
    let acked = Acked { group, end: (bytes[8] == 1).then_some((index, checksum)) };
    (encode(acked) == *bytes).then_some(acked)
}
