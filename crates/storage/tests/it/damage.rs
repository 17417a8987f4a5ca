//! Damage is "this store is lost" or does not matter. It never becomes an empty or a shorter log, or an older vote.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use palisade_storage::{LogEngine, LogOp, LogState, MetaSlot, OpenError};

use crate::support::{Rng, Store, all, append, open, write};

/// A folder with some of everything in it, and what stands in it.
struct Sample {
    store: Store,
    state: LogState,
    entries: Vec<(u64, Bytes)>,
}

fn sample() -> Sample {
    let mut store = Store::new();
    let mut rng = Rng(3);
    for index in 0..300u64 {
        let length = usize::try_from(rng.below(30_000)).unwrap();
        let mut ops = vec![append(index, vec![u8::try_from(index % 251).unwrap(); length])];
        if index % 10 == 0 {
            ops.push(LogOp::Put { slot: MetaSlot::Vote, bytes: Bytes::from(format!("vote {index}")) });
        }
        if index == 200 {
            ops.push(LogOp::Purge { up_to: 50, marker: Bytes::from("marker") });
        }
        write(store.engine(), ops).unwrap();
    }
    let (state, entries) = (store.engine().state(), all(store.engine()));
    store.close();
    Sample { store, state, entries }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => assert!(fs::copy(entry.path(), to).is_ok()),
        }
    }
}

/// What became of a damaged copy: `true` if it was called lost, `false` if nothing is missing. Anything else fails.
fn is_lost(sample: &Sample, what: &str, damage: impl FnOnce(&Path)) -> bool {
    let dir = tempfile::tempdir().unwrap();
    copy(sample.store.dir.path(), dir.path());
    damage(dir.path());
    match open(dir.path()) {
        Err(OpenError::Lost { .. }) => true,
        Err(error) => panic!("{what}: not called lost, but {error}"),
        Ok(engine) => {
            assert_eq!(engine.state(), sample.state, "{what}: opened with another state");
            assert!(all(&engine) == sample.entries, "{what}: opened with other entries");
            false
        }
    }
}

fn sled_files(sample: &Sample) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(sample.store.dir.path().join("log")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            files.push(Path::new("log").join(entry.file_name()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_flipped_byte_is_lost_and_never_a_shorter_log() {
    let sample = sample();
    let mut rng = Rng(17);
    let mut lost = 0;
    for name in sled_files(&sample) {
        let length = fs::metadata(sample.store.dir.path().join(&name)).unwrap().len();
        let used = fs::read(sample.store.dir.path().join(&name)).unwrap();
        let used = used.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1) as u64;
        println!("{}: {length} bytes, {used} used", name.display());
        for _ in 0..40 {
            let at = rng.below(used.max(1));
            let flipped = is_lost(&sample, &format!("{} byte {at}", name.display()), |dir| {
                let file = dir.join(&name);
                let mut bytes = fs::read(&file).unwrap();
                bytes[usize::try_from(at).unwrap()] ^= 0x10;
                fs::write(file, bytes).unwrap();
            });
            lost += usize::from(flipped);
        }
    }
    println!("{lost} flips were called lost");
    assert!(lost > 20, "flips that matter are found: {lost}");
}

#[test]
fn a_file_that_was_cut_short_is_lost_and_never_a_shorter_log() {
    let sample = sample();
    let mut rng = Rng(19);
    for name in sled_files(&sample) {
        let length = fs::metadata(sample.store.dir.path().join(&name)).unwrap().len();
        for _ in 0..15 {
            let to = rng.below(length.max(1));
            is_lost(&sample, &format!("{} cut to {to}", name.display()), |dir| {
                fs::OpenOptions::new().write(true).open(dir.join(&name)).unwrap().set_len(to).unwrap();
            });
        }
    }
}

#[test]
fn an_older_copy_of_the_log_is_lost() {
    let mut store = Store::new();
    write(store.engine(), vec![append(0, "first")]).unwrap();
    store.close();
    let older = tempfile::tempdir().unwrap();
    copy(&store.dir.path().join("log"), older.path());
    store.reopen();
    write(store.engine(), vec![append(1, "acknowledged")]).unwrap();
    store.close();
    fs::remove_dir_all(store.dir.path().join("log")).unwrap();
    copy(older.path(), &store.dir.path().join("log"));
    let error = open(store.dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Lost { .. }), "{error}");
}
