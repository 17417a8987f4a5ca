//! The planted bugs of this crate, each caught by a test that stands beside it. `cargo test -p palisade-rpc --features planted`.

use palisade_planted::{Bug, caught, choose};
use palisade_rpc::RpcGateway;

use crate::fencing::waited_while_the_guard_rose;
use crate::proto::CounterGateway;
use crate::table::{Claim, Receiver, Stands};
use crate::transport::Arrived;
use crate::wire::{Form, Reply};
use crate::{fencing, first_call, guards, heartbeats, life, registration, retriever, transport};

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
    let (counter, add) = (CounterGateway::INTERFACE, &CounterGateway::METHODS[0]);
    for receiver in [Receiver::Leader, Receiver::Worker] {
        let sent = async { Stands::new(receiver).await.row(Claim::Lower, counter, add, Form::Stream).await };
        let row = with(Bug::CompareWithNotEqual, sent);
        assert_eq!((row.reply, row.ran), (Reply::Answered, true), "with the bug a stale message runs");
    }
}

#[test]
fn tell_twice_is_caught_by_the_first_call() {
    let why = caught(Bug::TellTwice, first_call::a_gateway_tells_and_asks_over_a_socket);
    assert!(why.is_some_and(|why| why.contains("left: 4")));
}

#[test]
fn guard_forgets_is_caught_by_a_restarted_worker() {
    let why = caught(Bug::GuardForgets, guards::a_restarted_worker_remembers_what_it_accepted);
    assert!(why.is_some_and(|why| why.contains("durable before the first effect")));
}

#[test]
fn step_without_check_is_caught_by_a_continuation() {
    let check = fencing::d08_a_continuation_that_began_under_the_old_token_does_not_resume_under_the_new_one;
    let why = caught(Bug::StepWithoutCheck, check);
    assert!(why.is_some_and(|why| why.contains("dropped before the first message ran")));
}

/// What a test says when it fails with a bug on all its threads.
fn said(bug: Bug, test: impl Future<Output = ()>) -> String {
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| with(bug, test)));
    choose(None);
    let panic = failed.expect_err("the bug was not caught");
    let words = panic.downcast_ref::<String>().cloned();
    words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned())).unwrap_or_default()
}

#[test]
fn control_behind_work_is_caught_by_a_heartbeat() {
    let why = said(Bug::ControlBehindWork, transport::heartbeats_pass_work(Arrived::InAnyLane));
    assert!(why.contains("not every beat came before the work"), "{why}");
}

#[test]
fn credit_at_arrival_is_caught_by_a_sender_that_must_be_held_up() {
    let why = said(Bug::CreditAtArrival, transport::held_up_where_it_sends());
    assert!(why.contains("the mailbox has room for ten"), "{why}");
}

#[test]
fn message_after_stop_is_caught_by_the_call_behind_the_last_step() {
    // Which of two ready things the loop looks at first is drawn: now and then it is right by chance.
    let caught = (0..40).find(|_| {
        let tried = std::panic::catch_unwind(|| with(Bug::MessageAfterStop, life::nothing_is_taken_after_on_stop()));
        choose(None);
        tried.is_err()
    });
    assert!(caught.is_some(), "not in forty tries");
}

#[test]
fn believe_any_token_is_caught_by_the_table() {
    let (counter, add) = (CounterGateway::INTERFACE, &CounterGateway::METHODS[0]);
    let sent = async { Stands::new(Receiver::Worker).await.row(Claim::HigherForged, counter, add, Form::Plain).await };
    let row = with(Bug::BelieveAnyToken, sent);
    assert_eq!((row.reply, row.ran), (Reply::Answered, true), "with the bug a forged token locks the worker");
}

#[test]
fn not_registered_again_is_caught_by_g13() {
    let check =
        registration::g13_a_registration_that_is_worth_nothing_any_more_is_made_again_until_the_connection_is_closed;
    assert!(caught(Bug::NotRegisteredAgain, check).is_some_and(|why| why.contains("left: 1")));
}

#[test]
fn follows_backwards_is_caught_by_g01() {
    let check = retriever::g01_a_retriever_waits_for_a_leader_and_then_follows_from_one_to_the_next;
    assert!(
        caught(Bug::FollowsBackwards, check).is_some(),
        "with the bug the new leader's gateway is given up for an old one"
    );
}

#[test]
fn silence_unnoticed_is_caught_by_h04() {
    let check = heartbeats::h04_sender_and_receiver_keep_each_other_and_notice_the_others_end;
    assert!(caught(Bug::SilenceUnnoticed, check).is_some());
}
