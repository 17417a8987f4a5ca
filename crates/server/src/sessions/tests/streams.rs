//! Streams: keep-alives, breaks, and what a node does with its streams when it leads no longer.

use std::time::Duration;

use palisade_coord_core::{EndReason, Op, SessionId};
use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::server_frame::Body;

use super::fake::Commands;
use super::{ELECTION_TIMEOUT, KEEP, TestNode, release};
use crate::hub::DRIVER_QUEUE;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_keep_alive_does_not_wait_for_a_slow_proposal_on_its_stream() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(500, KEEP).await;
    node.fake.applying.shut();
    a.campaign(1, session, 1, "e").await;
    for call in 2..12 {
        node.pass(Duration::from_millis(150)).await;
        a.keep_alive(call, &[session]).await;
        assert_eq!(a.kept_alive().await, (call, vec![session]));
    }
    node.fake.applying.open();
    assert!(a.campaigned().await.is_some(), "1.5 s later the session of 500 ms lives");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_renewed_expires() {
    let node = TestNode::leading().await;
    let (mut a, mut b) = (node.stream(1).await, node.stream(2).await);
    let (first, second) = (a.opened(500, KEEP).await, b.opened(5_000, KEEP).await);
    a.campaign(1, first, 1, "e").await;
    a.campaigned().await.expect("nobody else wants it");
    b.campaign(1, second, 1, "e").await;
    assert_eq!(b.campaigned().await, None);
    let before = node.world.now();
    assert_eq!(b.granted().await.session, second);
    let waited = node.world.now() - before;
    assert!(waited <= Duration::from_millis(550), "within 50 ms of the TTL: {waited:?}");
    assert_eq!(a.ended().await, (first, "expired".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_stream_breaks_is_replaced_at_once() {
    let node = TestNode::leading().await;
    let (mut a, mut b) = (node.stream(1).await, node.stream(2).await);
    let (first, second) = (a.opened(60_000, release(0)).await, b.opened(60_000, release(0)).await);
    a.campaign(1, first, 1, "e").await;
    a.campaigned().await.expect("nobody else wants it");
    b.campaign(1, second, 1, "e").await;
    assert_eq!(b.campaigned().await, None);
    let before = node.world.now();
    a.dies().await;
    assert_eq!(b.granted().await.session, second);
    assert_eq!(node.world.now(), before, "without waiting for a tick");
    assert!(!node.lives(first));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dies_while_its_session_opens_is_disconnected() {
    let node = TestNode::leading().await;
    let a = node.stream(1).await;
    node.fake.answering.shut();
    a.open(1, 60_000, release(0)).await;
    node.until(|state| state.session_count() == 1).await;
    a.dies().await;
    node.fake.answering.open();
    node.until(|state| state.session_count() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_open_whose_answer_was_lost_leaves_no_session_for_ever() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    node.fake.set(Commands::AnswerLost);
    a.open(1, 1_000, KEEP).await;
    let (_, error) = a.refused().await;
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(node.fake.read_state(|state| state.session_count()), 1);
    node.until(|state| state.session_count() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn losing_the_store_leadership_closes_all_streams_and_releases_nobody() {
    let mut node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(1_000, release(0)).await;
    node.fake.lose(Some("b:7070"));
    let error = a.end().await;
    assert_eq!((error.kind(), error.outcome()), (Kind::NotStoreLeader, Outcome::Unknown));
    assert_eq!(error.store_leader.expect("a hint").address, "b:7070");
    let error = node.shut().await;
    assert_eq!((error.kind(), error.outcome()), (Kind::NotStoreLeader, Outcome::NotApplied));
    a.dies().await;
    node.pass(60 * SECOND).await;
    assert!(node.lives(session));

    // Here it leads again: the session has three seconds to attach, and does.
    node.fake.lead(2);
    node.accepts().await;
    let mut b = node.stream(2).await;
    node.pass(2 * SECOND).await;
    b.attach(1, session).await;
    assert_eq!(b.attached().await.ttl_ms, 1_000);
    b.keep_alive(2, &[session]).await;
    assert_eq!(b.kept_alive().await, (2, vec![session]));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_as_the_leadership_ends_is_refused() {
    let node = TestNode::following();
    let mut a = node.stream(1).await;
    let error = a.end().await;
    assert_eq!((error.kind(), error.outcome()), (Kind::NoStoreLeader, Outcome::NotApplied));
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_streams_are_closed_and_open_again_with_it() {
    let mut node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(1_000, release(0)).await;
    node.fake.rounds.shut();
    a.keep_alive(1, &[session]).await;
    let before = node.world.now();
    assert_eq!(a.end().await.kind(), Kind::NotStoreLeader, "and the keep-alive has no answer");
    assert!(node.world.now() - before <= 2 * ELECTION_TIMEOUT);
    assert_eq!(node.shut().await.kind(), Kind::NoStoreLeader);
    a.dies().await;
    node.pass(60 * SECOND).await;
    assert!(node.lives(session));

    node.fake.rounds.open();
    node.accepts().await;
    assert!(node.lives(session));
    let mut b = node.stream(2).await;
    b.attach(1, session).await;
    b.attached().await;
}

#[tokio::test(start_paused = true)]
async fn an_older_stream_is_ignored_once_its_session_is_attached_to_a_newer() {
    let node = TestNode::leading().await;
    let (mut a, mut b) = (node.stream(1).await, node.stream(2).await);
    let session = a.opened(10_000, release(0)).await;
    b.attach(1, session).await;
    b.attached().await;
    a.campaign(2, session, 1, "e").await;
    let (call, error) = a.refused().await;
    assert_eq!((call, error.kind(), error.field.as_str()), (2, Kind::InvalidArgument, "session"));
    a.dies().await;
    node.pass(SECOND).await;
    b.keep_alive(2, &[session]).await;
    assert_eq!(b.kept_alive().await, (2, vec![session]));
}

#[tokio::test(start_paused = true)]
async fn an_ended_session_is_named_as_ended() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    a.campaign(1, 4_711, 1, "e").await;
    a.attach(2, 4_711).await;
    a.keep_alive(3, &[4_711]).await;
    let mut refused = std::collections::BTreeMap::new();
    for _ in 0..3 {
        let (call, error) = a.refused().await;
        refused.insert(call, (error.kind(), error.outcome(), error.value));
    }
    let ended = || (Kind::SessionEnded, Outcome::NotApplied, "4711".to_owned());
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), [(1, ended()), (2, ended()), (3, ended())]);
}

#[tokio::test(start_paused = true)]
async fn bad_frames_name_field_value_and_limit_and_the_stream_goes_on() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    a.open(1, 5, KEEP).await;
    let (_, error) = a.refused().await;
    assert_eq!((error.field.as_str(), error.value.as_str()), ("ttl_ms", "5 ms"));
    assert_eq!(error.limit, "200 to 600000 ms");
    a.keep_alive(2, &vec![1; 1_025]).await;
    assert_eq!(a.refused().await.1.field, "sessions");
    a.open(0, 1_000, KEEP).await;
    assert_eq!(a.refused().await.1.field, "call");
    a.opened(1_000, KEEP).await;
}

#[tokio::test(start_paused = true)]
async fn frames_without_an_answer_are_bounded() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(60_000, KEEP).await;
    node.fake.applying.shut();
    for call in 1..=1_025 {
        a.campaign(call, session, call, "e").await;
    }
    let (call, error) = a.refused().await;
    assert_eq!((call, error.kind(), error.outcome()), (1_025, Kind::Overloaded, Outcome::NotApplied));
    a.campaign(1, session, 1, "e").await;
    assert_eq!(a.refused().await.1.kind(), Kind::Overloaded);
    node.fake.applying.open();
    assert!(matches!(a.next().await, (1, Body::Campaigned(_))));
}

#[tokio::test(start_paused = true)]
async fn a_refused_command_is_passed_on_and_the_attach_may_be_repeated() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(10_000, KEEP).await;
    let mut b = node.stream(2).await;
    node.fake.set(Commands::Overloaded);
    b.attach(1, session).await;
    assert_eq!(b.refused().await.1.kind(), Kind::Overloaded);
    node.fake.set(Commands::Applied);
    b.attach(2, session).await;
    assert_eq!(b.attached().await.attach_generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let node = TestNode::leading().await;
    let (mut a, mut b) = (node.stream(1).await, node.stream(2).await);
    let session = a.opened(60_000, release(0)).await;
    let other = b.opened(60_000, KEEP).await;
    for call in 1.. {
        if !node.lives(session) {
            break;
        }
        assert!(call < 20_000, "it must be cut off before it has left that much unread");
        a.keep_alive(call, &[session]).await;
        node.pass(Duration::from_millis(1)).await;
    }
    let error = a.end().await;
    assert_eq!((error.kind(), error.outcome()), (Kind::Overloaded, Outcome::Unknown));
    b.keep_alive(1, &[other]).await;
    assert_eq!(b.kept_alive().await, (1, vec![other]), "nobody else is cut off");
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_missed_events_begins_anew_and_releases_nobody() {
    let mut node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(10_000, release(0)).await;
    for _ in 0..=DRIVER_QUEUE {
        let open = Op::OpenSession {
            id: None,
            ttl_ms: 60_000,
            on_disconnect: palisade_coord_core::OnDisconnect::KeepUntilTtl,
        };
        let Ok(palisade_coord_core::Reply::SessionOpened { session, .. }) = node.fake.apply(open).1 else {
            panic!("there is room for a session")
        };
        let _ = node.fake.apply(Op::EndSession { session, why: EndReason::Closed, only_if: None });
    }
    let _ = a.end().await;
    node.accepts().await;
    assert!(node.lives(session));
    let mut b = node.stream(2).await;
    b.attach(1, session).await;
    b.attached().await;
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_comes_just_before_the_expiry_is_applied_saves_the_session() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(500, KEEP).await;
    node.pass(Duration::from_millis(490)).await;
    let mut b = node.stream(2).await;
    // Somebody attached it, and the answer was lost: the driver knows the older generation only.
    let _ = node.fake.apply(Op::Attach { session: SessionId(session) });
    node.pass(Duration::from_millis(100)).await;
    assert!(node.lives(session), "the expiry was conditional on an older attach generation");
    b.attach(1, session).await;
    assert_eq!(b.attached().await.attach_generation, 3);
}
