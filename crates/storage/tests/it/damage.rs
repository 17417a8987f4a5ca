//! Damage is "this store is lost" or does not matter. It never becomes an empty or a shorter log, or an older vote.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use palisade_storage::{
    DataFolder, FileSnapshots, LogEngine, LogOp, LogState, MetaSlot, OpenError, SledEngine, SnapshotStore,
};

use crate::support::{Rng, Store, all, append, open, options, write};

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

pub(crate) fn copy(from: &Path, to: &Path) {
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
        for _ in 0..30 {
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
    assert!(lost > 15, "flips that matter are found: {lost}");
}

/// As a killed process leaves it: nothing was closed in order, and the end of the log is what was acknowledged last.
#[test]
fn a_damaged_tail_after_a_kill_is_lost_or_does_not_matter() {
    let mut store = Store::new();
    let killed = tempfile::tempdir().unwrap();
    for index in 0..40 {
        write(store.engine(), vec![append(index, vec![9; 700])]).unwrap();
    }
    write(store.engine(), vec![crate::support::vote("the last word")]).unwrap();
    let (state, entries) = (store.engine().state(), all(store.engine()));
    copy(store.dir.path(), killed.path());
    store.close();
    let db = killed.path().join("log/db");
    let bytes = fs::read(&db).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut lost = 0;
    for before_the_end in [1, 2, 5, 9, 20, 40, 80, 150, 300, 600, 1200, 5000] {
        for tear in [false, true] {
            let mut damaged = bytes.clone();
            let at = end - before_the_end;
            if tear {
                damaged[at..end].fill(0)
            } else {
                damaged[at] ^= 0x10
            }
            let dir = tempfile::tempdir().unwrap();
            copy(killed.path(), dir.path());
            fs::write(dir.path().join("log/db"), damaged).unwrap();
            match open(dir.path()) {
                Ok(engine) => assert!(engine.state() == state && all(&engine) == entries, "{before_the_end} {tear}"),
                Err(error) => {
                    let advice = "this node's store is lost: remove it and add it under a new id";
                    assert!(error.to_string().starts_with(advice), "{before_the_end} {tear}: {error}");
                    lost += 1;
                }
            }
        }
    }
    assert!(lost > 12, "what was acknowledged stood there: {lost}");
}

#[test]
fn a_damaged_small_file_is_told_by_name_and_never_a_new_store() {
    let mut store = Store::new();
    write(store.engine(), vec![append(0, "acknowledged")]).unwrap();
    store.close();
    let folder = DataFolder::open(store.dir.path(), 7).unwrap();
    FileSnapshots::open(&folder).unwrap().save(b"meta", b"data").unwrap();
    drop(folder);
    for name in ["FORMAT", "STORE_ID", "ACKED", "SNAPSHOT"] {
        let whole = fs::read(store.dir.path().join(name)).unwrap();
        let flips = (0..whole.len()).map(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            flipped
        });
        for damaged in flips.chain([Vec::new(), whole[..whole.len() - 1].to_vec(), [&whole[..], b"x"].concat()]) {
            fs::write(store.dir.path().join(name), damaged).unwrap();
            let opened = DataFolder::open(store.dir.path(), 99)
                .and_then(|folder| FileSnapshots::open(&folder).and_then(|_| SledEngine::open(&folder, options())));
            let words = opened.err().unwrap_or_else(|| panic!("opened with a damaged {name}")).to_string();
            assert!(words.contains(name), "{words}");
            assert!(words.contains("this node's store is lost") || words.contains("has format"), "{words}");
        }
        fs::write(store.dir.path().join(name), whole).unwrap();
    }
    store.reopen();
    assert_eq!(store.engine().state().last, Some(0), "all of it was put back");
}

#[test]
fn a_file_that_was_cut_short_is_lost_and_never_a_shorter_log() {
    let sample = sample();
    let mut rng = Rng(19);
    for name in sled_files(&sample) {
        let length = fs::metadata(sample.store.dir.path().join(&name)).unwrap().len();
        for _ in 0..8 {
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

/// Changes a closed store behind its back, as a page of sled that fell back to an older state would.
fn change_sled(store: &mut Store, change: impl FnOnce(&sled::Tree, &sled::Tree)) {
    store.close();
    let config = sled::Config::default().path(store.dir.path().join("log")).segment_size(2 * 1024 * 1024);
    // A thread of sled may hold its lock for a moment after the close; the engine waits for that, sled does not.
    let db = (0..1_000_000).find_map(|_| {
        std::thread::yield_now();
        config.open().ok()
    });
    let db = db.expect("whoever held the lock was on the way out");
    change(&db.open_tree("log").unwrap(), &db.open_tree("meta").unwrap());
}

fn key(index: u64) -> Vec<u8> {
    [&index.to_be_bytes()[..], &[0, 0]].concat()
}

#[test]
fn a_page_that_fell_back_alone_is_lost() {
    type Change = fn(&sled::Tree, &sled::Tree, &[(u64, sled::IVec)]);
    let changes: [(&str, Change, &str); 5] = [
        ("the last entries are gone", |log, _, _| log.remove(key(9)).map(drop).unwrap(), "written up to entry 9"),
        ("all entries are gone", |log, _, _| log.clear().unwrap(), "written up to entry 9"),
        ("an entry in the middle is gone", |log, _, _| log.remove(key(4)).map(drop).unwrap(), "entries are missing"),
        (
            "the last entries are older ones",
            |log, _, old| old[6..].iter().for_each(|(index, item)| drop(log.insert(key(*index), item).unwrap())),
            "not the one that was written last",
        ),
        (
            "an entry in the middle is an older one",
            |log, _, old| log.insert(key(7), old[7].1.clone()).map(drop).unwrap(),
            "was not written after",
        ),
    ];
    for (what, change, expected) in changes {
        let mut store = Store::new();
        write(store.engine(), (0..10).map(|index| append(index, "old")).collect()).unwrap();
        let mut old = Vec::new();
        change_sled(&mut store, |log, _| {
            old = (0..10).map(|index| (index, log.get(key(index)).unwrap().unwrap())).collect()
        });
        store.reopen();
        let rewrite = std::iter::once(LogOp::TruncateAfter { index: Some(5) });
        write(store.engine(), rewrite.chain((6..10).map(|index| append(index, "new"))).collect()).unwrap();
        change_sled(&mut store, |log, meta| change(log, meta, &old));
        let error = open(store.dir.path()).err().unwrap_or_else(|| panic!("opened although {what}"));
        assert!(matches!(error, OpenError::Lost { .. }), "{what}: {error}");
        assert!(error.to_string().contains(expected), "{what}: {error}");
    }
}

#[test]
fn metadata_that_fell_back_alone_is_lost() {
    let mut store = Store::new();
    write(store.engine(), vec![append(0, "x")]).unwrap();
    let mut old = Vec::new();
    change_sled(&mut store, |_, meta| old = meta.iter().map(Result::unwrap).collect());
    store.reopen();
    write(store.engine(), vec![crate::support::vote("acknowledged")]).unwrap();
    change_sled(&mut store, |_, meta| {
        meta.clear().unwrap();
        for (key, value) in &old {
            meta.insert(key, value).unwrap();
        }
    });
    let error = open(store.dir.path()).err().unwrap();
    assert!(error.to_string().contains("was acknowledged"), "{error}");
}
