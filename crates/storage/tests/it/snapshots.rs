//! Snapshots are whole or an error, and the latest survives.

use std::fs;

use palisade_storage::{
    DataFolder, FileSnapshots, OpenError, SNAPSHOT_PIECE_BYTES, SimDisk, SimSnapshots, SnapshotStore, StorageError,
};

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.join("snapshots")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn open(dir: &std::path::Path) -> Result<FileSnapshots, OpenError> {
    FileSnapshots::open(&DataFolder::open(dir, 1)?)
}

fn check_latest(snapshots: &dyn SnapshotStore) {
    assert!(snapshots.latest().unwrap().is_none());
    for round in 0..3u8 {
        let (meta, data) = (vec![round; 10], vec![round; 100_000]);
        snapshots.save(&meta, &data).unwrap();
        let latest = snapshots.latest().unwrap().unwrap();
        assert_eq!((&latest.meta, latest.whole().unwrap()), (&meta.into(), data.into()));
    }
    snapshots.save(&[], &[]).unwrap();
    assert_eq!(snapshots.latest().unwrap().unwrap().bytes(), 0);
}

#[test]
fn the_latest_is_what_was_saved_last() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = open(dir.path()).unwrap();
    check_latest(&snapshots);
    snapshots.save(b"meta", b"data").unwrap();
    drop(snapshots);
    assert_eq!(files(dir.path()).len(), 1, "older ones are gone");
    let snapshots = open(dir.path()).unwrap();
    assert_eq!(snapshots.latest().unwrap().unwrap().meta, "meta");
    snapshots.save(b"next", b"data").unwrap();
    assert_eq!(snapshots.latest().unwrap().unwrap().meta, "next");
    check_latest(&SimSnapshots::open(&SimDisk::new()).unwrap());
}

#[test]
fn torn_files_and_older_ones_are_removed_at_opening() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().save(b"one", b"data").unwrap();
    let first = files(dir.path()).remove(0);
    let kept = fs::read(&first).unwrap();
    open(dir.path()).unwrap().save(b"two", b"data").unwrap();
    // As if the process had died between the rename and the removal, and once more while writing.
    fs::write(&first, kept).unwrap();
    fs::write(dir.path().join("snapshots/snapshot-00000000000000000003.snap.tmp"), b"PALISNAP half").unwrap();
    let snapshots = open(dir.path()).unwrap();
    assert_eq!(files(dir.path()).len(), 1);
    assert_eq!(snapshots.latest().unwrap().unwrap().meta, "two");
}

#[test]
fn a_damaged_latest_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = open(dir.path()).unwrap();
    snapshots.save(b"meta", b"some data").unwrap();
    let file = files(dir.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&file, &flipped).unwrap();
        let error = snapshots.latest().and_then(|latest| latest.unwrap().whole()).unwrap_err();
        assert!(matches!(error, StorageError::Corrupt { .. }), "byte {at}: {error}");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    drop(snapshots);
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(&error, OpenError::Lost { folder, .. } if *folder == file), "{error}");
    assert!(file.exists(), "nothing is removed");
}

pub(crate) fn a_damaged_piece_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = open(dir.path()).unwrap();
    let data: Vec<u8> = (0..3 * SNAPSHOT_PIECE_BYTES + 5).map(|at| (at % 251) as u8).collect();
    let saved = snapshots.save(b"meta", &data).unwrap();
    assert_eq!(saved.whole().unwrap(), data);
    let file = files(dir.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let pieces = (0..4).map(|piece| saved.piece(piece * SNAPSHOT_PIECE_BYTES as u64));
    assert_eq!(pieces.filter(|piece| piece.is_err()).count(), 1, "a damaged piece was read");
}

#[test]
fn only_the_damaged_piece_is_refused() {
    a_damaged_piece_is_refused();
}

#[test]
fn blocks_that_changed_places_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = open(dir.path()).unwrap();
    let saved = snapshots.save(b"", &vec![7; 2 * SNAPSHOT_PIECE_BYTES]).unwrap();
    let file = files(dir.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    // The bytes of both are the same, and so is what is before them, except for the place.
    let (head, block) = (17, 8 + SNAPSHOT_PIECE_BYTES);
    let (first, second) = bytes[head..].split_at_mut(block);
    first.swap_with_slice(&mut second[..block]);
    fs::write(&file, bytes).unwrap();
    assert!(matches!(saved.piece(0), Err(StorageError::Corrupt { .. })));
}

#[test]
fn who_reads_a_snapshot_is_not_disturbed_by_the_next_and_drafts_that_are_dropped_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = open(dir.path()).unwrap();
    let first = snapshots.save(b"first", b"one").unwrap();
    let mut draft = snapshots.begin(b"never").unwrap();
    draft.write(b"half").unwrap();
    snapshots.save(b"second", b"two").unwrap();
    drop(draft);
    assert_eq!(first.whole().unwrap(), "one");
    assert_eq!(snapshots.latest().unwrap().unwrap().whole().unwrap(), "two");
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn a_snapshot_that_is_gone_is_a_lost_store() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().save(b"one", b"data").unwrap();
    let first = files(dir.path()).remove(0);
    let older = fs::read(&first).unwrap();
    open(dir.path()).unwrap().save(b"two", b"data").unwrap();
    fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Lost { .. })));
    fs::write(&first, older).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(error.to_string().contains("snapshot 2 was saved and is gone"), "an older one does not count: {error}");
}

#[test]
fn a_save_that_fails_leaves_the_one_before() {
    let disk = SimDisk::new();
    let snapshots = SimSnapshots::open(&disk).unwrap();
    snapshots.save(b"one", b"data").unwrap();
    disk.fail_next_save();
    assert!(snapshots.save(b"two", b"data").is_err());
    assert_eq!(snapshots.latest().unwrap().unwrap().meta, "one");
    disk.fill();
    assert!(matches!(snapshots.save(b"two", b"data"), Err(StorageError::DiskFull { .. })));
    disk.make_room();
    snapshots.save(b"three", b"data").unwrap();
    assert_eq!(snapshots.latest().unwrap().unwrap().meta, "three");
}
