//! The planted bugs of this crate, each caught by a test that stands beside it. `cargo test -p palisade-rpc --features planted`.

use palisade_rpc::{Bug, RpcServiceConfig};

use crate::fencing::waited_while_the_guard_rose;
use crate::proto::CounterGateway;
use crate::table::{Claim, Receiver, row};
use crate::wire::{Form, Reply};

fn with(bug: &str) -> RpcServiceConfig {
    RpcServiceConfig::listen("127.0.0.1:0").planted(bug.parse::<Bug>().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn skip_check_at_dequeue_is_caught_by_messages_that_waited() {
    let waited = waited_while_the_guard_rose(with("skip-check-at-dequeue")).await;
    assert_eq!(waited.sum, 3, "with the bug both stale messages take effect: {waited:?}");
}

#[tokio::test]
async fn compare_with_not_equal_is_caught_by_the_table() {
    let add = &CounterGateway::METHODS[0];
    for receiver in [Receiver::Leader, Receiver::Worker] {
        let (row, _) = row(with("compare-with-not-equal"), receiver, Claim::Lower, add, Form::Stream).await;
        assert_eq!((row.reply, row.ran), (Reply::Answered, true), "with the bug a stale message runs");
    }
}

#[test]
fn an_unknown_bug_is_refused_by_name() {
    assert!("no-such-bug".parse::<Bug>().unwrap_err().contains("skip-check-at-dequeue"));
}
