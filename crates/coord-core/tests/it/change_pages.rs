//! Pages of changes: whoever reads on from page to page sees each change once, and never takes a part of a revision for all.

use palisade_coord_core::keys::op::{Delete, Put, Txn};
use palisade_coord_core::{Bookmark, Command, KeyOp, Keys, Op, PageSize, Refusal, Revision, State, apply};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::steps;

/// Revision and key.
type Changed = (u64, Vec<u8>);

fn keys_op(state: &mut State, op: Op) {
    let outcome = apply(state, &Command::new(0, op));
    outcome.reply.expect("it can be done");
}

/// A transaction that puts these keys, whose values have so many bytes.
fn txn(keys: impl IntoIterator<Item = u8>, bytes: usize) -> Op {
    let success = keys.into_iter().map(|key| KeyOp::Put(Put::new([key], vec![7; bytes]))).collect();
    Op::Keys(KeyOp::Txn(Txn { success, ..Txn::default() }))
}

/// All pages from a revision on, as a watcher takes them: it delivers a revision when it believes to have all of it.
fn read_on(state: &State, keys: &Keys, from: Revision, size: PageSize) -> Vec<Vec<Changed>> {
    let (mut at, mut open, mut delivered) = (Bookmark::before(from), Vec::new(), Vec::new());
    while at.revision <= state.revision() {
        let weigh = |it: &palisade_coord_core::KeyChange<'_>| Some(it.kv.map_or(1, |kv| kv.value.len() as u64));
        let page = state.change_page(keys, at, state.revision(), size, weigh).expect("it is kept");
        assert!(page.next > at, "it gets no further than {at:?}");
        at = page.next;
        open.extend(page.changes.iter().map(|it| (it.revision.get(), it.key.to_vec())));
        let ready = |it: &Changed| !page.is_part || it.0 < at.revision.get();
        let whole: Vec<Changed> = open.iter().filter(|it| ready(it)).cloned().collect();
        open.retain(|it| !ready(it));
        delivered.extend(whole.chunk_by(|one, other| one.0 == other.0).map(<[Changed]>::to_vec));
    }
    assert!(open.is_empty(), "the last page says that there is more");
    delivered
}

fn by_revision(state: &State, keys: &Keys, from: Revision) -> Vec<Vec<Changed>> {
    let all: Vec<Changed> =
        state.changes(keys, from).expect("it is kept").map(|it| (it.revision.get(), it.key.to_vec())).collect();
    all.chunk_by(|one, other| one.0 == other.0).map(<[Changed]>::to_vec).collect()
}

/// Transactions of up to 12 keys, pages of up to 8 changes.
fn pages_show_whole_revisions() -> Result<(), String> {
    let steps = prop::collection::vec((0u8..6, 1u8..12, 0usize..6), 1..24);
    let strategy = (steps, 0u64..12, 1usize..8, 1u64..24, prop::option::of(0u8..12));
    let run = TestRunner::new(steps::config()).run(&strategy, |(steps, from, changes, bytes, only)| {
        let mut state = State::new();
        for (first, count, bytes) in steps {
            match bytes {
                0 => {
                    let keys = Keys::Span { from: vec![first], to: vec![first + count] };
                    keys_op(&mut state, Op::Keys(KeyOp::Delete(Delete::new(keys))));
                }
                bytes => keys_op(&mut state, txn(first..first + count, bytes)),
            }
        }
        let keys = only.map_or(Keys::prefix([]), |key| Keys::One(vec![key]));
        let from = Revision(from.min(state.revision().get()));
        let read = read_on(&state, &keys, from, PageSize { changes, bytes });
        prop_assert_eq!(read, by_revision(&state, &keys, from));
        Ok(())
    });
    run.map_err(|error| error.to_string())
}

#[test]
fn whoever_reads_on_from_page_to_page_sees_whole_revisions_once() {
    pages_show_whole_revisions().unwrap();
}

#[cfg(feature = "planted")]
#[test]
fn the_planted_bug_that_splits_a_revision_is_caught() {
    let check = || pages_show_whole_revisions().unwrap_or_else(|error| panic!("{error}"));
    assert!(palisade_planted::caught(palisade_planted::Bug::RevisionSplit, check).is_some());
}

#[test]
fn a_page_costs_what_it_may_cost_and_ends_between_revisions_if_it_can() {
    let mut state = State::new();
    for _ in 0..3 {
        keys_op(&mut state, txn(0..4, 10));
    }
    let all = Keys::prefix([]);
    let page = |at: Bookmark, changes: usize, bytes: u64| {
        let size = PageSize { changes, bytes };
        let page = state.change_page(&all, at, state.revision(), size, |_| Some(10)).unwrap();
        (page.changes.len(), (page.next.revision.get(), page.next.place), page.is_part)
    };
    let start = Bookmark::before(Revision(1));
    assert_eq!(page(start, 100, 1_000), (12, (4, 0), false));
    assert_eq!(page(start, 6, 1_000), (4, (2, 0), false), "two of the second revision wait for the next page");
    assert_eq!(page(start, 100, 80), (8, (3, 0), false));
    assert_eq!(page(start, 100, 25), (3, (1, 3), true), "at most one change too much");
    assert_eq!(page(Bookmark { revision: Revision(1), place: 3 }, 100, 25), (1, (2, 0), false));
    assert_eq!(page(Bookmark::before(Revision(9)), 1, 1), (0, (9, 0), false), "what has not come yet");
}

#[test]
fn what_is_not_wanted_takes_no_room_but_is_counted_as_looked_at() {
    let mut state = State::new();
    for _ in 0..10 {
        keys_op(&mut state, txn([1], 10));
    }
    let size = PageSize { changes: 4, bytes: 1 };
    let page = state.change_page(&Keys::prefix([]), Bookmark::before(Revision(1)), Revision(10), size, |_| None);
    let page = page.unwrap();
    assert_eq!((page.changes.len(), page.next), (0, Bookmark::before(Revision(5))));
}

#[test]
fn a_page_from_before_a_compaction_is_refused_also_within_a_revision() {
    let mut state = State::new();
    for _ in 0..3 {
        keys_op(&mut state, txn(0..4, 10));
    }
    keys_op(&mut state, Op::Compact { revision: Revision(2) });
    let size = PageSize { changes: 10, bytes: 10 };
    let page = |at| state.change_page(&Keys::prefix([]), at, Revision(3), size, |_| Some(1)).map(|_| ());
    let refused = Err(Refusal::Compacted { revision: Revision(1), compacted: Revision(2) });
    assert_eq!(page(Bookmark { revision: Revision(1), place: 2 }), refused);
    assert_eq!(page(Bookmark::before(Revision(2))), Ok(()));
}
