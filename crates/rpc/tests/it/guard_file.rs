//! A worker's guard survives the worker and never goes back.

use std::sync::Arc;

use palisade_fence::{ClusterId, Token};
use palisade_rpc::{DurableGuard, GuardFile, GuardFileError};
use palisade_world::LocalFiles;

fn open(folder: &std::path::Path) -> Result<GuardFile, GuardFileError> {
    GuardFile::open(Arc::new(LocalFiles), folder)
}

fn token(number: u32) -> Token {
    Token::new(0, number)
}

const ONE: ClusterId = ClusterId(1);

#[test]
fn a_guard_survives_and_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    {
        let guards = open(dir.path()).unwrap();
        assert_eq!(guards.load(ONE, "jobs"), Ok(None));
        for (cluster, election, raised) in
            [(ONE, "jobs", 5), (ONE, "jobs", 5), (ONE, "jobs", 9), (ClusterId(2), "jobs", 3), (ONE, "wähler", u32::MAX)]
        {
            guards.raise(cluster, election, token(raised)).unwrap();
        }
    }
    let guards = open(dir.path()).unwrap();
    assert_eq!(guards.load(ONE, "jobs"), Ok(Some(token(9))));
    assert_eq!(guards.load(ClusterId(2), "jobs"), Ok(Some(token(3))), "clusters are apart");
    assert_eq!(guards.load(ONE, "wähler"), Ok(Some(token(u32::MAX))));
    assert_eq!(guards.load(ONE, "other"), Ok(None));
    let error = guards.raise(ONE, "jobs", token(8)).unwrap_err();
    assert!(error.why.contains("never goes back"), "{error}");
    assert_eq!(guards.load(ONE, "jobs"), Ok(Some(token(9))));
    let error = guards.raise(ONE, &"x".repeat(256), token(8)).unwrap_err();
    assert!(error.why.contains("255"), "{error}");
}

#[test]
fn a_guard_that_cannot_be_written_stays_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let guards = open(&dir.path().join("worker")).unwrap();
    guards.raise(ONE, "jobs", token(5)).unwrap();
    std::fs::remove_dir_all(dir.path().join("worker")).unwrap();
    assert!(guards.raise(ONE, "jobs", token(6)).is_err());
    assert_eq!(guards.load(ONE, "jobs"), Ok(Some(token(5))));
}

#[test]
fn one_process_at_a_time_and_no_start_without_a_damaged_guard() {
    let dir = tempfile::tempdir().unwrap();
    let guards = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(GuardFileError::InUse { .. })));
    guards.raise(ONE, "jobs", token(5)).unwrap();
    drop(guards);
    std::fs::write(dir.path().join("guard.tmp"), b"half").unwrap();
    drop(open(dir.path()).unwrap());
    let file = dir.path().join("guard");
    let whole = std::fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        std::fs::write(&file, &flipped).unwrap();
        assert!(matches!(open(dir.path()), Err(GuardFileError::Damaged { .. })), "byte {at}");
        std::fs::write(&file, &whole[..at]).unwrap();
        assert!(matches!(open(dir.path()), Err(GuardFileError::Damaged { .. })), "cut at {at}");
    }
}
