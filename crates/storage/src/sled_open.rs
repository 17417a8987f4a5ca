//! Opening sled's folder: what is removed, what is checked, what is synced, and what counts as lost.
//! It never repairs and never starts afresh where something was acknowledged once.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::acked_mark::{Acked, AckedMark};
use crate::data_folder::{io as io_error, lost};
use crate::sled_log::{self, END_KEY, End, FORMAT_KEY, GROUP_KEY, PURGED_KEY, SHORTENED_KEY, Scan, SledLog};
use crate::{DataFolder, LogState, MetaSlot, OpenError, StorageError, disk_space, durable_file};

/// Fixed at creation: sled refuses another one. Measured as fast as the default; large enough that no leaf of our items
/// passes a quarter of it (see `record::ITEM_BYTES`).
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;

/// How often, and how far apart, sled's lock is asked for: five seconds, far longer than anything that is on its way out.
const RELEASE_TRIES: u32 = 5000;
const RELEASE_PAUSE: Duration = Duration::from_millis(1);

/// What the trees and the file `ACKED` hold: keys and records as in `record`, metadata as in `sled_log`. In version 1 `ACKED` did not
/// say where the log ended.
const FORMAT: u32 = 2;

/// An opened and checked log.
pub(crate) struct Opened {
    pub(crate) log: SledLog,
    pub(crate) state: LogState,
    pub(crate) mark: AckedMark,
    /// The number of the last group of metadata on disk.
    pub(crate) group: u64,
    /// Where the chain of records ends.
    pub(crate) end: End,
}

/// Opens the log of a folder, or says why its store is lost.
pub(crate) fn open(folder: &DataFolder, cache_bytes: u64) -> Result<Opened, OpenError> {
    let path = folder.log();
    let data = path.join("db");
    if folder.log_was_made() && !data.exists() {
        return Err(lost(&path, "its log is gone"));
    }
    if path.exists() {
        remove_unfinished_snapshots(&path)?;
    }
    wait_until_released(folder, &data)?;
    if data.exists() {
        forget_cached(&path)?;
    }
    let db = open_sled(&path, cache_bytes)?;
    let (log, meta) = catch_unwind(AssertUnwindSafe(|| Ok((db.open_tree("log")?, db.open_tree("meta")?))))
        .map_err(|panic| lost(&path, format!("sled panicked: {}", sled_log::panic_text(&*panic))))?
        .map_err(|error: sled::Error| sled_error(&path, error))?;
    let data = File::open(&data).map_err(io_error("opening", &data))?;
    let log = SledLog { log, meta, db, data, path: path.clone() };
    check_format(folder, &log)?;
    let group = group_under(&log, GROUP_KEY).map_err(|error| open_error(&path, "reading", error))?;
    if (group > 0 || !log.log.is_empty()) && !folder.log_was_made() {
        return Err(lost(&path, "it was in use, and its file LOG_MADE is gone"));
    }
    let mark_path = folder.path().join("ACKED");
    let mut mark = match folder.log_was_made() {
        true => AckedMark::open(&mark_path)?,
        false => AckedMark::create(&mark_path)?,
    };
    let acked = mark.acked();
    if group < acked.group {
        return Err(lost(&path, format!("group {} was acknowledged, the log ends with group {group}", acked.group)));
    }
    // A later group may have shortened the log, or begun to: then what the log promises itself counts alone.
    let shortened = group_under(&log, SHORTENED_KEY).map_err(|error| open_error(&path, "reading", error))?;
    let acked_end = acked.end.filter(|_| shortened <= acked.group);
    let (state, end) = check(&log, acked_end).map_err(|error| open_error(&path, "reading", error))?;
    sync_all(folder, &log)?;
    mark.set(Acked { group, end }).map_err(io_error("writing", &mark_path))?;
    refuse_blobs(&path)?;
    if !folder.log_was_made() {
        folder.log_is_made()?;
    }
    Ok(Opened { log, state, mark, group, end })
}

/// sled picks the newest snapshot file by name, also one whose writing was interrupted, and then cannot open at all.
/// The snapshot before it is still there, for sled removes that only after the rename.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(path).map_err(io_error("listing", path))? {
        let file = entry.map_err(io_error("listing", path))?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&file).map_err(io_error("removing", &file))?;
        }
    }
    Ok(())
}

/// What is checked from here on is what the disk has. The process before may have ended because a sync failed: what it wrote then may be
/// in memory alone, would pass every check, and could not be made durable by any sync of ours.
fn forget_cached(path: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(path).map_err(io_error("listing", path))? {
        let file = entry.map_err(io_error("listing", path))?.path();
        if file.is_file() {
            durable_file::forget_cached(&file).map_err(io_error("syncing", &file))?;
        }
    }
    Ok(())
}

/// Waits until nobody holds sled's own lock any more. The folder is ours, so whoever holds it is on the way out: a thread
/// of sled that outlives its `Db` by a moment, or a child that was forked and has not yet begun its own program.
fn wait_until_released(folder: &DataFolder, data: &Path) -> Result<(), OpenError> {
    if !data.exists() {
        return Ok(());
    }
    for _ in 0..RELEASE_TRIES {
        let file = File::open(data).map_err(io_error("opening", data))?;
        // Given back at once, for sled to take.
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_) => return Ok(()),
            Err((_, Errno::EWOULDBLOCK)) => std::thread::sleep(RELEASE_PAUSE),
            Err((_, errno)) => return Err(io_error("locking", data)(errno.into())),
        }
    }
    Err(OpenError::InUse { folder: folder.path().to_owned() })
}

fn open_sled(path: &Path, cache_bytes: u64) -> Result<sled::Db, OpenError> {
    let config = sled::Config::default().path(path).cache_capacity(cache_bytes).segment_size(SEGMENT_BYTES);
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(sled_error(path, error)),
        // Out of space, sled may panic too: that is not a lost store.
        Err(_) if disk_space::free_bytes(path).is_ok_and(|free| free < SEGMENT_BYTES as u64) => {
            Err(OpenError::Io { action: "opening", path: path.to_owned(), source: io::ErrorKind::StorageFull.into() })
        }
        Err(panic) => Err(lost(path, format!("sled panicked: {}", sled_log::panic_text(&*panic)))),
    }
}

/// An answer of the operating system is told as it is; everything else means that sled cannot read its files.
fn sled_error(path: &Path, error: sled::Error) -> OpenError {
    match error {
        // sled reads past the end of a file that was cut short.
        sled::Error::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            OpenError::Io { action: "opening", path: path.to_owned(), source }
        }
        error => lost(path, error.to_string()),
    }
}

/// What cannot be read is lost; what the operating system refuses is told as it is.
fn open_error(path: &Path, action: &'static str, error: StorageError) -> OpenError {
    match error {
        StorageError::Corrupt { what } => lost(path, what),
        StorageError::DiskFull { .. } => {
            OpenError::Io { action, path: path.to_owned(), source: io::ErrorKind::StorageFull.into() }
        }
        error => OpenError::Io { action, path: path.to_owned(), source: io::Error::other(error.to_string()) },
    }
}

/// A log that was made once says its format; one that was not has nothing in it.
fn check_format(folder: &DataFolder, log: &SledLog) -> Result<(), OpenError> {
    match log.meta_value(FORMAT_KEY).map_err(|error| open_error(&log.path, "reading", error))? {
        Some(found) if *found == FORMAT.to_be_bytes() => Ok(()),
        Some(found) => {
            let number = found[..].try_into().map(u32::from_be_bytes);
            let found = number.map_or_else(|_| format!("{found:?}"), |number| number.to_string());
            Err(OpenError::Format { path: log.path.clone(), found, known: FORMAT })
        }
        None if folder.log_was_made() || !log.log.is_empty() || !log.meta.is_empty() => {
            Err(lost(&log.path, "the log does not say its format"))
        }
        None => log.put_meta(FORMAT_KEY, &FORMAT.to_be_bytes()).map_err(|error| sled_error(&log.path, error)),
    }
}

/// Reads everything: metadata, and every entry from the first to the last, each with its checksum and without a hole. The log
/// must hold what its metadata promises, and what was acknowledged.
fn check(log: &SledLog, acked: End) -> Result<(LogState, End), StorageError> {
    let mut state = LogState::default();
    for slot in [MetaSlot::Vote, MetaSlot::Committed, MetaSlot::Identity] {
        *state.slot_mut(slot) = log.meta_value(sled_log::slot_key(slot))?;
    }
    state.purged = log.meta_value(PURGED_KEY)?.map(|value| sled_log::parse_purged(&value)).transpose()?;
    // What lies at or below the marker was about to be deleted.
    state.first = match &state.purged {
        Some((purged, _)) => purged + 1,
        None => log.first_from(0)?.unwrap_or(0),
    };
    let promised = log.meta_value(END_KEY)?.map_or(Ok(None), |value| sled_log::parse_end(&value))?;
    let mut missing: Vec<End> = [promised, acked].into_iter().filter(Option::is_some).collect();
    let mut end = None;
    log.scan(state.first, u64::MAX, |index, record| {
        state.last = Some(index);
        end = Some((index, record.checksum));
        missing.retain(|kept| *kept != end);
        Scan::GoOn
    })?;
    if let Some((index, _)) = missing.into_iter().flatten().max() {
        return Err(sled_log::corrupt(match state.last {
            Some(last) if last >= index => format!("entry {index} is not the one that was written last"),
            last => format!("the log was written up to entry {index} and ends with {last:?}"),
        }));
    }
    state.check_invariants();
    Ok((state, end))
}

/// The number of a group that metadata names; 0 before the first.
fn group_under(log: &SledLog, key: &[u8]) -> Result<u64, StorageError> {
    let Some(value) = log.meta_value(key)? else { return Ok(0) };
    let wrong = |_| sled_log::corrupt(format!("metadata {}: wrong length", String::from_utf8_lossy(key)));
    let value = value[..].try_into().map_err(wrong)?;
    Ok(u64::from_be_bytes(value))
}

/// What was found may have been written by a process that died before it synced: nothing is reported before it is durable. (What a sync
/// could not bring to the disk was not found: see [`forget_cached`].)
/// sled never syncs its configuration file nor any folder.
fn sync_all(folder: &DataFolder, log: &SledLog) -> Result<(), OpenError> {
    let path = &log.path;
    log.flush().and_then(|()| log.sync()).map_err(|error| open_error(path, "syncing", error))?;
    for entry in fs::read_dir(path).map_err(io_error("listing", path))? {
        let file = entry.map_err(io_error("listing", path))?.path();
        match File::open(&file).and_then(|file| file.sync_all()) {
            // sled removes superseded snapshots in the background.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            synced => synced.map_err(io_error("syncing", &file))?,
        }
    }
    for path in [path.as_path(), folder.path(), durable_file::parent_of(folder.path())] {
        durable_file::sync_folder(path).map_err(io_error("syncing", path))?;
    }
    Ok(())
}

/// sled never syncs what it puts there, so nothing of ours may ever be there.
fn refuse_blobs(path: &Path) -> Result<(), OpenError> {
    let blobs = path.join("blobs");
    let first = fs::read_dir(&blobs).map_err(io_error("listing", &blobs))?.next();
    match first {
        None => Ok(()),
        Some(_) => Err(lost(&blobs, "sled wrote a page outside its log, which it never syncs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_another_version_is_named_and_not_called_lost() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), 7).unwrap();
        let Opened { log, .. } = open(&folder, 1 << 20).unwrap();
        log.put_meta(FORMAT_KEY, &1u32.to_be_bytes()).unwrap();
        log.flush().unwrap();
        drop(log);
        let words = open(&folder, 1 << 20).map(|_| ()).unwrap_err().to_string();
        assert!(words.ends_with("has format 1; this version reads format 2"), "{words}");
    }
}
