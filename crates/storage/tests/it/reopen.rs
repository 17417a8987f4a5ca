//! What was acknowledged is there after opening again: entries, metadata, truncations and purges.

use bytes::Bytes;
use palisade_storage::{EngineHealth, LogEngine, LogOp, LogState, MetaSlot, StorageError};

use crate::damage::copy;
use crate::support::{Store, all, append, open, vote, write};

fn put(slot: MetaSlot, bytes: &'static [u8]) -> LogOp {
    LogOp::Put { slot, bytes: Bytes::from_static(bytes) }
}

fn purge(up_to: u64) -> LogOp {
    LogOp::Purge { up_to, marker: Bytes::from(format!("marker {up_to}")) }
}

fn fill(store: &Store, indexes: std::ops::Range<u64>) {
    let ops = indexes.map(|index| append(index, format!("entry {index}"))).collect();
    write(store.engine(), ops).unwrap();
}

fn indexes(store: &Store) -> Vec<u64> {
    all(store.engine()).into_iter().map(|(index, _)| index).collect()
}

#[test]
fn a_new_store_is_empty() {
    let mut store = Store::new();
    for _ in 0..2 {
        assert_eq!(store.engine().state(), LogState::default());
        assert_eq!(all(store.engine()), []);
        assert_eq!(store.engine().health(), EngineHealth::Ok);
        store.reopen();
    }
}

#[test]
fn entries_and_metadata_come_back() {
    let mut store = Store::new();
    fill(&store, 0..100);
    let slots = vec![vote("vote 1"), put(MetaSlot::Committed, b"57"), put(MetaSlot::Identity, b"node 3")];
    write(store.engine(), slots).unwrap();
    write(store.engine(), vec![vote("vote 2")]).unwrap();
    let (before, entries) = (store.engine().state(), all(store.engine()));
    store.reopen();
    assert_eq!(store.engine().state(), before);
    assert_eq!(before.vote, Some(Bytes::from("vote 2")));
    assert_eq!(before.committed, Some(Bytes::from("57")));
    assert_eq!(before.identity, Some(Bytes::from("node 3")));
    assert_eq!(all(store.engine()), entries);
    assert_eq!(entries.len(), 100);
    assert_eq!(entries[42], (42, Bytes::from("entry 42")));
}

/// A process that is killed in its first quiet minute must know its cluster when it starts again.
#[test]
fn what_is_committed_is_on_disk_after_a_quiet_moment_without_another_write() {
    let store = Store::new();
    fill(&store, 0..3);
    store.engine().submit(vec![put(MetaSlot::Committed, b"2")], None);
    // As a kill would leave it: what a copy of the folder says. A copy that is taken while the engine writes may be called lost.
    for _ in 0..1_000 {
        let copied = tempfile::tempdir().unwrap();
        copy(store.dir.path(), copied.path());
        if open(copied.path()).is_ok_and(|engine| engine.state().committed == Some(Bytes::from("2"))) {
            return;
        }
    }
    panic!("nothing was written in a long quiet time");
}

#[test]
fn entries_are_readable_before_they_are_durable() {
    let store = Store::new();
    for index in 0..1000 {
        store.engine().submit(vec![append(index, vec![1; 100])], None);
        assert_eq!(store.engine().state().last, Some(index));
        assert_eq!(store.engine().read(index, index + 1, 0).unwrap().len(), 1);
    }
}

#[test]
fn a_read_stops_at_the_limit_and_gives_at_least_one() {
    let mut store = Store::new();
    write(store.engine(), (0..20).map(|index| append(index, vec![1; 1000])).collect()).unwrap();
    for _ in 0..2 {
        let count = |from, to, bytes| store.engine().read(from, to, bytes).unwrap().len();
        assert_eq!(count(0, 20, 3000), 3);
        assert_eq!(count(0, 20, 3999), 3);
        assert_eq!(count(0, 20, 0), 1);
        assert_eq!(count(0, 20, usize::MAX), 20);
        assert_eq!(count(5, 7, usize::MAX), 2);
        assert_eq!(count(20, 30, usize::MAX), 0);
        assert_eq!(count(7, 5, usize::MAX), 0);
        store.reopen();
    }
}

#[test]
fn a_read_joins_disk_and_memory() {
    let mut store = Store::new();
    fill(&store, 0..50);
    store.reopen();
    fill(&store, 50..100);
    assert_eq!(indexes(&store), (0..100).collect::<Vec<_>>());
    let limited = store.engine().read(45, 100, 10 * "entry 45".len()).unwrap();
    assert_eq!(limited.first().unwrap().0, 45);
    assert_eq!(limited.last().unwrap().0, 54, "the limit holds across the border");
}

#[test]
fn a_truncated_log_goes_on_with_other_entries() {
    let mut store = Store::new();
    fill(&store, 0..50);
    store.reopen();
    // Truncated below and above what is in memory, and replaced in one submit and in two.
    write(store.engine(), vec![LogOp::TruncateAfter { index: Some(39) }, append(40, "other 40")]).unwrap();
    write(store.engine(), vec![append(41, "other 41"), append(42, "other 42")]).unwrap();
    store.engine().submit(vec![LogOp::TruncateAfter { index: Some(41) }], None);
    write(store.engine(), vec![append(42, "third 42")]).unwrap();
    for _ in 0..2 {
        assert_eq!(store.engine().state().last, Some(42));
        let end = store.engine().read(39, 100, usize::MAX).unwrap();
        let texts: Vec<_> = end.iter().map(|(_, bytes)| std::str::from_utf8(bytes).unwrap()).collect();
        assert_eq!(texts, ["entry 39", "other 40", "other 41", "third 42"]);
        store.reopen();
    }
    write(store.engine(), vec![LogOp::TruncateAfter { index: None }]).unwrap();
    for _ in 0..2 {
        assert_eq!((store.engine().state().first, store.engine().state().last), (0, None));
        store.reopen();
    }
}

#[test]
fn a_purged_log_stays_purged() {
    let mut store = Store::new();
    fill(&store, 0..5000);
    write(store.engine(), vec![purge(3999)]).unwrap();
    for _ in 0..2 {
        let state = store.engine().state();
        assert_eq!((state.first, state.last), (4000, Some(4999)));
        assert_eq!(state.purged, Some((3999, Bytes::from("marker 3999"))));
        assert_eq!(indexes(&store), (4000..5000).collect::<Vec<_>>());
        store.reopen();
    }
    // An older purge changes nothing, nor does the same one.
    write(store.engine(), vec![purge(100), purge(3999)]).unwrap();
    assert_eq!(store.engine().state().purged, Some((3999, Bytes::from("marker 3999"))));
    fill(&store, 5000..5010);
    store.reopen();
    assert_eq!(store.engine().state().purged, Some((3999, Bytes::from("marker 3999"))));
    assert_eq!(store.engine().state().last, Some(5009));
}

#[test]
fn a_purge_beyond_the_end_makes_room_for_what_follows_a_snapshot() {
    let mut store = Store::new();
    fill(&store, 0..10);
    write(store.engine(), vec![purge(99)]).unwrap();
    for _ in 0..2 {
        assert_eq!((store.engine().state().first, store.engine().state().last), (100, None));
        assert_eq!(store.engine().state().next(), 100);
        assert_eq!(all(store.engine()), []);
        store.reopen();
    }
    fill(&store, 100..110);
    store.reopen();
    assert_eq!(indexes(&store), (100..110).collect::<Vec<_>>());
}

#[test]
fn a_log_may_begin_anywhere_once() {
    let mut store = Store::new();
    fill(&store, 1..5);
    store.reopen();
    assert_eq!((store.engine().state().first, store.engine().state().last), (1, Some(4)));
}

#[test]
fn a_caller_that_breaks_the_log_stops_it() {
    let misuses: [fn() -> Vec<LogOp>; 5] = [
        || vec![append(12, "a gap")],
        || vec![append(9, "again")],
        || vec![append(10, "right"), append(10, "twice")],
        || vec![append(10, vec![0; palisade_storage::MAX_RECORD_BYTES + 1])],
        || vec![LogOp::Put { slot: MetaSlot::Vote, bytes: vec![0; palisade_storage::MAX_META_BYTES + 1].into() }],
    ];
    for misuse in misuses {
        let mut store = Store::new();
        fill(&store, 0..10);
        let error = write(store.engine(), misuse()).unwrap_err();
        assert!(matches!(error, StorageError::Misused { .. }), "{error}");
        assert_eq!(store.engine().state().last, Some(9), "all of a submit or none");
        assert!(matches!(store.engine().health(), EngineHealth::Failed { .. }));
        assert_eq!(write(store.engine(), vec![append(10, "late")]).unwrap_err(), error, "it never goes on");
        assert_eq!(indexes(&store).len(), 10, "reads go on");
        store.reopen();
        assert_eq!(indexes(&store).len(), 10);
    }
}

#[test]
fn callbacks_come_in_order_and_may_submit() {
    let store = Store::new();
    let (order, received) = std::sync::mpsc::channel();
    let engine = std::sync::Arc::new(crate::support::open(&store.dir.path().join("second")).unwrap());
    for index in 0..200 {
        let (order, again) = (order.clone(), std::sync::Arc::downgrade(&engine));
        let done = move |outcome: Result<(), StorageError>| {
            outcome.unwrap();
            if index == 100 {
                again.upgrade().unwrap().submit(vec![vote("from a callback")], None);
            }
            order.send(index).unwrap();
        };
        engine.submit(vec![append(index, vec![0; 10])], Some(Box::new(done)));
    }
    engine.submit(Vec::new(), Some(Box::new(move |outcome| outcome.map(|()| order.send(200).unwrap()).unwrap())));
    let received: Vec<u64> = received.iter().collect();
    assert_eq!(received, (0..=200).collect::<Vec<_>>(), "an empty submit waits for those before it");
    drop(engine);
    let engine = crate::support::open(&store.dir.path().join("second")).unwrap();
    assert_eq!(engine.state().vote, Some(Bytes::from("from a callback")));
}

#[test]
fn the_last_handle_may_be_dropped_in_a_callback() {
    let dir = tempfile::tempdir().unwrap();
    let engine = std::sync::Arc::new(crate::support::open(dir.path()).unwrap());
    let (sent, received) = std::sync::mpsc::channel::<()>();
    let last = std::sync::Arc::clone(&engine);
    engine.submit(vec![append(0, "only")], Some(Box::new(move |_| drop((last, sent)))));
    drop(engine);
    assert!(received.recv().is_err(), "the callback ran and dropped what it held");
}

#[test]
fn a_full_queue_blocks_until_it_is_synced() {
    let store = Store::new();
    // 300 MiB pass through a queue of 64.
    let bytes = Bytes::from(vec![7; 1024 * 1024]);
    for index in 0..300 {
        store.engine().submit(vec![append(index, bytes.clone()), purge(index.saturating_sub(5))], None);
    }
    write(store.engine(), Vec::new()).unwrap();
    assert_eq!(store.engine().state().last, Some(299));
}
