//! A worker's guard survives the worker and never goes back.

use palisade_storage::{GuardError, GuardFile, OpenError};

#[test]
fn a_guard_survives_and_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    {
        let guards = GuardFile::open(dir.path()).unwrap();
        assert_eq!(guards.get(1, "jobs"), None);
        guards.raise(1, "jobs", 5).unwrap();
        guards.raise(1, "jobs", 5).unwrap();
        guards.raise(1, "jobs", 9).unwrap();
        guards.raise(2, "jobs", 3).unwrap();
        guards.raise(1, "wähler", u64::MAX >> 1).unwrap();
    }
    let guards = GuardFile::open(dir.path()).unwrap();
    assert_eq!(guards.get(1, "jobs"), Some(9));
    assert_eq!(guards.get(2, "jobs"), Some(3), "clusters are apart");
    assert_eq!(guards.get(1, "wähler"), Some(u64::MAX >> 1));
    assert_eq!(guards.get(1, "other"), None);
    assert_eq!(guards.all().len(), 3);
    let error = guards.raise(1, "jobs", 8).unwrap_err();
    assert!(matches!(error, GuardError::Stale { current: 9, offered: 8, .. }), "{error}");
    assert_eq!(guards.get(1, "jobs"), Some(9));
    let error = guards.raise(1, &"x".repeat(256), 8).unwrap_err();
    assert!(matches!(error, GuardError::Limit { limit: 255, .. }), "{error}");
}

#[test]
fn a_guard_that_cannot_be_written_stays_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let guards = GuardFile::open(dir.path().join("worker")).unwrap();
    guards.raise(1, "jobs", 5).unwrap();
    std::fs::remove_dir_all(dir.path().join("worker")).unwrap();
    assert!(matches!(guards.raise(1, "jobs", 6), Err(GuardError::Io { .. })));
    assert_eq!(guards.get(1, "jobs"), Some(5));
}

#[test]
fn one_process_at_a_time_and_no_start_without_a_damaged_guard() {
    let dir = tempfile::tempdir().unwrap();
    let guards = GuardFile::open(dir.path()).unwrap();
    assert!(matches!(GuardFile::open(dir.path()), Err(OpenError::InUse { .. })));
    guards.raise(1, "jobs", 5).unwrap();
    drop(guards);
    std::fs::write(dir.path().join("guard.tmp"), b"half").unwrap();
    drop(GuardFile::open(dir.path()).unwrap());
    let file = dir.path().join("guard");
    let whole = std::fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        std::fs::write(&file, &flipped).unwrap();
        assert!(matches!(GuardFile::open(dir.path()), Err(OpenError::Lost { .. })), "byte {at}");
        std::fs::write(&file, &whole[..at]).unwrap();
        assert!(matches!(GuardFile::open(dir.path()), Err(OpenError::Lost { .. })), "cut at {at}");
    }
}
