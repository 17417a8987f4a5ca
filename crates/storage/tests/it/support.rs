//! What the tests share: a store in a temporary folder, waiting for callbacks, seeded numbers, loud skips.

use std::io::Write;
use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use palisade_storage::{DataFolder, LogEngine, LogOp, MetaSlot, OpenError, SledEngine, SledOptions, StorageError};
use tempfile::TempDir;

/// How a test opens a store: no reserve, for the disks of test machines are small.
pub(crate) fn options() -> SledOptions {
    SledOptions { cache_bytes: 8 * 1024 * 1024, reserve_bytes: 0, refuse_bytes: 0 }
}

/// Opens the folder as a process would.
pub(crate) fn open(path: &Path) -> Result<SledEngine, OpenError> {
    let folder = DataFolder::open(path, 7)?;
    SledEngine::open(&folder, options())
}

/// A store whose folder goes away with it; every close asserts that sled kept to its log.
pub(crate) struct Store {
    pub(crate) dir: TempDir,
    engine: Option<SledEngine>,
}

impl Store {
    pub(crate) fn new() -> Store {
        let dir = tempfile::tempdir().unwrap();
        let engine = Some(open(dir.path()).unwrap());
        Store { dir, engine }
    }

    pub(crate) fn engine(&self) -> &SledEngine {
        self.engine.as_ref().unwrap()
    }

    pub(crate) fn reopen(&mut self) {
        self.close();
        self.engine = Some(open(self.dir.path()).unwrap());
    }

    pub(crate) fn close(&mut self) {
        drop(self.engine.take());
        assert_no_blobs(self.dir.path());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.close();
        }
    }
}

/// sled never syncs what it puts there.
pub(crate) fn assert_no_blobs(path: &Path) {
    let blobs: Vec<_> = std::fs::read_dir(path.join("log/blobs")).unwrap().collect();
    assert!(blobs.is_empty(), "sled wrote outside its log: {blobs:?}");
}

/// A folder in memory where there is one, for tests that sync thousands of times and cut no power: a sync is a call there as
/// well, and takes no time.
pub(crate) fn quick_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Submits and waits for the callback.
pub(crate) fn write(engine: &dyn LogEngine, ops: Vec<LogOp>) -> Result<(), StorageError> {
    let (done, outcome) = mpsc::channel();
    engine.submit(ops, Some(Box::new(move |result| done.send(result).unwrap())));
    outcome.recv().expect("every callback is called")
}

pub(crate) fn append(index: u64, bytes: impl Into<Bytes>) -> LogOp {
    LogOp::Append { index, bytes: bytes.into() }
}

pub(crate) fn vote(bytes: &'static str) -> LogOp {
    LogOp::Put { slot: MetaSlot::Vote, bytes: Bytes::from_static(bytes.as_bytes()) }
}

/// Everything the log holds.
pub(crate) fn all(engine: &dyn LogEngine) -> Vec<(u64, Bytes)> {
    let mut entries = Vec::new();
    let mut next = 0;
    loop {
        let found = engine.read(next, u64::MAX, 1024 * 1024).unwrap();
        let Some((last, _)) = found.last() else { return entries };
        next = last + 1;
        entries.extend(found);
    }
}

/// SplitMix64: a seed is enough to repeat a test.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Says that a test cannot run here, and fails instead where the need is required.
pub(crate) fn skip(name: &str, need: &str, reason: &str) {
    let required = std::env::var("PALISADE_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|required| required.trim() == need), "{name} needs {need}: {reason}");
    // Past the test runner's capture, which swallows what passing tests print.
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
}
