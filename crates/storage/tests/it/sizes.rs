//! Records of every size come back whole, and none of them leaves sled's log.

use palisade_storage::LogEngine;

use crate::support::{Rng, Store, all, append, assert_no_blobs, write};

const ITEM: usize = 24 * 1024;

fn filled(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng(seed);
    (0..length).map(|_| u8::try_from(rng.next() & 255).unwrap()).collect()
}

#[test]
fn records_of_every_size_come_back() {
    let sizes =
        [0, 1, 100, ITEM - 10, ITEM - 9, ITEM - 8, ITEM - 1, ITEM, ITEM + 1, 2 * ITEM, 1536 * 1024, 16 * 1024 * 1024];
    let mut store = Store::new();
    for (index, size) in (0..).zip(sizes) {
        write(store.engine(), vec![append(index, filled(size, index))]).unwrap();
    }
    for _ in 0..2 {
        let entries = all(store.engine());
        assert_eq!(entries.len(), sizes.len());
        for ((index, bytes), size) in entries.iter().zip(sizes) {
            assert_eq!(*bytes, filled(size, *index), "{size} bytes");
        }
        store.reopen();
    }
}

#[test]
fn large_records_that_come_and_go_stay_in_the_log() {
    let mut store = Store::new();
    let mut rng = Rng(11);
    for index in 0..60 {
        let length = usize::try_from(rng.below(1536 * 1024)).unwrap();
        let mut ops = vec![append(index, filled(length, index))];
        if index % 10 == 9 {
            ops.push(palisade_storage::LogOp::Purge { up_to: index - 5, marker: bytes::Bytes::new() });
        }
        write(store.engine(), ops).unwrap();
        assert_no_blobs(store.dir.path());
    }
    store.reopen();
    assert_eq!(store.engine().state().first, 55);
    assert_eq!(all(store.engine()).len(), 5);
}
