//! A full disk is told, refuses writes, serves reads, and loses nothing that was acknowledged. Needs root for a small
//! file system.

use std::path::{Path, PathBuf};
use std::process::Command;

use palisade_storage::{
    DataFolder, EngineHealth, FileSnapshots, FullState, LogEngine, SledEngine, SledOptions, SnapshotStore, StorageError,
};

use crate::support::{all, append, assert_no_blobs, options, skip, vote, write};

const MIB: u64 = 1024 * 1024;

/// A file system in memory of some MiB, unmounted at the end.
struct Small {
    dir: tempfile::TempDir,
}

impl Small {
    fn mount(mib: u64) -> Result<Small, String> {
        let dir = tempfile::tempdir().unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "palisade-test"], dir.path())?;
        Ok(Small { dir })
    }

    fn grow(&self, mib: u64) {
        run("mount", &["-o", &format!("remount,size={mib}m")], self.dir.path()).unwrap();
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A test that failed may still hold files: detach, so that nothing stays behind.
        let _ = run("umount", &["-l"], self.dir.path());
    }
}

fn run(program: &str, args: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new(program).args(args).arg(path).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn open(path: &Path, options: SledOptions) -> SledEngine {
    SledEngine::open(&DataFolder::open(path, 1).unwrap(), options).unwrap()
}

/// Writes until a write is refused; returns how many were acknowledged, why it ended, and the healths seen on the way.
fn fill(engine: &SledEngine) -> (u64, StorageError, Vec<EngineHealth>) {
    let mut healths = vec![engine.health()];
    for index in 0.. {
        let outcome = write(engine, vec![append(index, vec![7; 200_000]), vote("vote")]);
        let health = engine.health();
        if std::mem::discriminant(&health) != std::mem::discriminant(&healths[healths.len() - 1]) {
            healths.push(health);
        }
        if let Err(error) = outcome {
            return (index, error, healths);
        }
    }
    unreachable!("the disk is small")
}

fn check_refusing(engine: &SledEngine, acknowledged: u64) {
    assert!(matches!(engine.health(), EngineHealth::DiskFull { state: FullState::WritesRefused, .. }));
    let refused = write(engine, vec![vote("later")]).unwrap_err();
    assert!(matches!(refused, StorageError::DiskFull { .. }), "it never goes on: {refused}");
    assert!(all(engine).len() as u64 >= acknowledged, "reads go on");
}

fn check_reopened(engine: &SledEngine, acknowledged: u64) {
    let entries = all(engine);
    assert!(entries.len() as u64 >= acknowledged, "{} of {acknowledged} are there", entries.len());
    assert!(entries.iter().all(|(_, bytes)| *bytes == vec![7; 200_000]));
    assert_eq!(engine.state().vote.unwrap(), "vote");
}

#[test]
fn a_full_disk_is_told_before_it_hurts() {
    let small = match Small::mount(64) {
        Ok(small) => small,
        Err(reason) => return skip("a_full_disk_is_told_before_it_hurts", "root", &reason),
    };
    let options = || SledOptions { reserve_bytes: 24 * MIB, refuse_bytes: 12 * MIB, ..options() };
    let engine = open(&small.store(), options());
    let (acknowledged, error, healths) = fill(&engine);
    assert!(acknowledged > 50, "{acknowledged}");
    assert!(matches!(error, StorageError::DiskFull { free_bytes } if free_bytes < 12 * MIB), "{error}");
    assert_eq!(healths[0], EngineHealth::Ok);
    let told = matches!(healths[1], EngineHealth::DiskFull { state: FullState::ReserveReached, free_bytes, .. }
        if (12 * MIB..24 * MIB).contains(&free_bytes));
    assert!(told, "{healths:?}");
    check_refusing(&engine, acknowledged);
    drop(engine);
    // What is left is enough to start again, and refuses again.
    let engine = open(&small.store(), options());
    check_reopened(&engine, acknowledged);
    assert!(matches!(engine.health(), EngineHealth::DiskFull { state: FullState::ReserveReached, .. }));
    drop(engine);
    small.grow(128);
    let engine = open(&small.store(), options());
    assert_eq!(engine.health(), EngineHealth::Ok);
    write(&engine, vec![append(engine.state().next(), vec![7; 200_000])]).unwrap();
    check_reopened(&engine, acknowledged + 1);
    drop(engine);
    assert_no_blobs(&small.store());
}

#[test]
fn a_disk_that_runs_full_under_sled_loses_nothing_acknowledged() {
    let small = match Small::mount(40) {
        Ok(small) => small,
        Err(reason) => return skip("a_disk_that_runs_full_under_sled_loses_nothing_acknowledged", "root", &reason),
    };
    let engine = open(&small.store(), options());
    let (acknowledged, error, _) = fill(&engine);
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
    check_refusing(&engine, acknowledged);
    drop(engine);
    small.grow(128);
    let engine = open(&small.store(), options());
    check_reopened(&engine, acknowledged);
    write(&engine, vec![append(engine.state().next(), vec![7; 200_000])]).unwrap();
    drop(engine);
    assert_no_blobs(&small.store());
}

#[test]
fn a_snapshot_that_does_not_fit_leaves_the_one_before() {
    let small = match Small::mount(8) {
        Ok(small) => small,
        Err(reason) => return skip("a_snapshot_that_does_not_fit_leaves_the_one_before", "root", &reason),
    };
    let snapshots = FileSnapshots::open(&DataFolder::open(small.store(), 1).unwrap()).unwrap();
    snapshots.save(b"one", &vec![1; 2 * 1024 * 1024]).unwrap();
    let error = snapshots.save(b"two", &vec![2; 6 * 1024 * 1024]).unwrap_err();
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
    assert_eq!(snapshots.latest().unwrap().unwrap().meta, "one");
    snapshots.save(b"three", &vec![3; 3 * 1024 * 1024]).unwrap();
    assert_eq!(snapshots.latest().unwrap().unwrap().meta, "three");
    drop(snapshots);

    // What belongs to the log is not even begun to be used.
    let beside = FileSnapshots::open_beside(&DataFolder::open(small.store(), 1).unwrap(), 4 * MIB).unwrap();
    let error = beside.begin(b"four").map(drop).unwrap_err();
    assert!(matches!(error, StorageError::DiskFull { free_bytes } if free_bytes > 4 * MIB), "{error}");
    assert_eq!(beside.latest().unwrap().unwrap().meta, "three");
}
