//! The planted bugs of this crate, each caught by a test that stands beside it. `cargo test -p palisade-rpc --features planted`.

use palisade_planted::{Bug, choose};

use crate::fencing::waited_while_the_guard_rose;
use crate::proto::CounterGateway;
use crate::table::{Claim, Receiver, row};
use crate::wire::{Form, Reply};

/// Runs a test on threads that all have the bug.
fn with<T>(bug: Bug, test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .on_thread_start(move || choose(Some(bug)))
        .enable_all()
        .build()
        .unwrap();
    choose(Some(bug));
    let out = runtime.block_on(test);
    choose(None);
    out
}

#[test]
fn skip_check_at_dequeue_is_caught_by_messages_that_waited() {
    let waited = with(Bug::SkipCheckAtDequeue, waited_while_the_guard_rose());
    assert_eq!(waited.sum, 3, "with the bug both stale messages take effect: {waited:?}");
}

#[test]
fn compare_with_not_equal_is_caught_by_the_table() {
    let add = &CounterGateway::METHODS[0];
    for receiver in [Receiver::Leader, Receiver::Worker] {
        let (row, _) = with(Bug::CompareWithNotEqual, row(receiver, Claim::Lower, add, Form::Stream));
        assert_eq!((row.reply, row.ran), (Reply::Answered, true), "with the bug a stale message runs");
    }
}
