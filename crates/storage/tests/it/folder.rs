//! A data folder belongs to one process, keeps its id, and is never taken for a new one.

use std::fs;
use std::path::Path;
use std::sync::Barrier;

use palisade_storage::{DataFolder, LogEngine, OpenError, SledEngine};

use crate::support::{Store, append, open, options, quick_dir, write};

#[test]
fn two_openings_of_one_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = DataFolder::open(dir.path(), 1).unwrap();
    let second = DataFolder::open(dir.path(), 2).unwrap_err();
    assert!(matches!(second, OpenError::InUse { .. }));
    let text = second.to_string();
    assert!(text.contains(dir.path().to_str().unwrap()) && text.contains("in use"), "{text}");
    // The engine keeps the folder locked by itself.
    let engine = SledEngine::open(&first, options()).unwrap();
    drop(first);
    assert!(matches!(DataFolder::open(dir.path(), 2), Err(OpenError::InUse { .. })));
    drop(engine);
    assert_eq!(DataFolder::open(dir.path(), 2).unwrap().store_id(), 1, "the id is for life");
}

#[test]
fn the_store_id_is_never_zero() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(DataFolder::open(dir.path(), 0).unwrap().store_id(), 1);
}

#[test]
fn unfinished_snapshots_of_sled_are_removed() {
    let mut store = Store::new();
    write(store.engine(), vec![append(0, "here")]).unwrap();
    store.close();
    let left_over = store.dir.path().join("log/snap.00000000FFFFFFFF.generating");
    fs::write(&left_over, b"half").unwrap();
    store.reopen();
    assert!(!left_over.exists());
    assert_eq!(store.engine().state().last, Some(0));
}

#[test]
fn torn_temporary_files_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataFolder::open(dir.path(), 5).unwrap());
    fs::write(dir.path().join("STORE_ID.tmp"), b"half").unwrap();
    assert_eq!(DataFolder::open(dir.path(), 6).unwrap().store_id(), 5);
    assert!(!dir.path().join("STORE_ID.tmp").exists());
}

#[test]
fn a_folder_that_took_part_is_never_opened_as_a_new_one() {
    let remove = |path: &Path| if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    for gone in ["STORE_ID", "FORMAT", "LOG_MADE", "ACKED", "log", "log/db"] {
        let mut store = Store::new();
        write(store.engine(), vec![append(0, "acknowledged")]).unwrap();
        store.close();
        remove(&store.dir.path().join(gone)).unwrap();
        let error = open(store.dir.path()).err().unwrap_or_else(|| panic!("opened without {gone}"));
        assert!(matches!(error, OpenError::Lost { .. }), "{gone}: {error}");
        let text = error.to_string();
        assert!(text.contains("this node's store is lost: remove it and add it under a new id"), "{text}");
        // Only the case of the missing log leaves sled's folder to `close`.
        fs::create_dir_all(store.dir.path().join("log/blobs")).unwrap();
    }
}

#[test]
fn a_creation_that_was_interrupted_is_taken_up() {
    for left in [&["FORMAT"][..], &["FORMAT", "STORE_ID"], &["FORMAT", "STORE_ID", "log/conf", "log/blobs/"]] {
        let store = {
            let mut store = Store::new();
            store.close();
            store
        };
        let dir = tempfile::tempdir().unwrap();
        for name in left {
            let (from, to) = (store.dir.path().join(name), dir.path().join(name));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            if name.ends_with('/') { fs::create_dir_all(to) } else { fs::copy(from, to).map(drop) }.unwrap();
        }
        let engine = open(dir.path()).unwrap();
        write(&engine, vec![append(0, "first")]).unwrap();
    }
}

#[test]
fn another_format_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataFolder::open(dir.path(), 5).unwrap());
    fs::write(dir.path().join("FORMAT"), b"9\n").unwrap();
    let error = DataFolder::open(dir.path(), 5).unwrap_err();
    assert!(matches!(&error, OpenError::Format { found, known: 1, .. } if found == "9"), "{error}");
}

#[test]
fn a_path_that_is_no_folder_is_told_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = DataFolder::open(&file, 5).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}

#[test]
fn a_folder_is_restored_into_or_begun_as_a_new_nodes_never_both() {
    for round in 0..300 {
        let dir = quick_dir();
        let together = Barrier::new(2);
        let (begun, opened) = std::thread::scope(|threads| {
            let restore = threads.spawn(|| {
                together.wait();
                DataFolder::begin_restore(dir.path(), 1)
            });
            together.wait();
            let opened = DataFolder::open(dir.path(), 2);
            (restore.join().unwrap(), opened)
        });
        let marked = dir.path().join("RESTORING").exists();
        assert_eq!(marked, begun.is_ok(), "round {round}: {begun:?}, {opened:?}");
        assert!(!(begun.is_ok() && opened.is_ok()), "round {round}: two have it");
    }
}

#[test]
fn a_folder_with_anything_in_it_is_not_restored_into_and_nothing_is_put_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letters"), b"somebody else's").unwrap();
    let error = DataFolder::begin_restore(dir.path(), 1).unwrap_err();
    assert!(matches!(&error, OpenError::NotEmpty { found, .. } if found == "letters"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
