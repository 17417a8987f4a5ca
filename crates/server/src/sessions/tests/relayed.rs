//! Streams that another node relays, and calls that come without frames.

use std::time::Duration;

use palisade_coord_core::SessionId;
use palisade_wire::coord::v1::client_frame::Body as Asks;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::server_frame::Body;
use palisade_wire::coord::v1::{ClientFrame, KeepAlive, ServerFrame};
use tokio::sync::oneshot;

use super::super::frames::admit;
use super::super::reader::Input;
use super::{BOUND, KEEP, TestNode, release};

const SECOND: Duration = Duration::from_secs(1);

async fn who_dies_with_its_relay_has_three_seconds() {
    let node = TestNode::leading().await;
    let (mut a, mut b) = (node.stream(1).await, node.stream(2).await);
    let (first, second) = (a.opened(60_000, release(0)).await, b.opened(60_000, release(0)).await);
    a.campaign(1, first, 1, "e").await;
    a.campaigned().await.expect("nobody else wants it");
    b.campaign(1, second, 1, "e").await;
    assert_eq!(b.campaigned().await, None);
    let before = node.world.now();
    a.relay_dies().await;
    assert_eq!(b.granted().await.session, second);
    let waited = node.world.now() - before;
    assert!(waited >= 3 * SECOND, "released after {waited:?}, and a relay's death is nobody's disconnect");
    assert!(waited <= 3 * SECOND + Duration::from_millis(50), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn the_death_of_a_relay_is_nobodys_disconnect() {
    who_dies_with_its_relay_has_three_seconds().await;
}

#[cfg(feature = "planted")]
#[test]
fn the_planted_bug_that_takes_the_death_of_a_relay_for_a_disconnect_is_caught() {
    let check = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(who_dies_with_its_relay_has_three_seconds());
    };
    let why = palisade_planted::caught(palisade_planted::Bug::RelayDeathReleases, check).expect("it must be caught");
    assert!(why.contains("a relay's death is nobody's disconnect"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn who_attaches_again_after_the_death_of_its_relay_goes_on() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(60_000, release(0)).await;
    a.campaign(1, session, 1, "e").await;
    let grant = a.campaigned().await.expect("nobody else wants it");
    a.relay_dies().await;
    node.pass(2 * SECOND).await;
    let mut again = node.stream(2).await;
    again.attach(1, session).await;
    assert_eq!(again.attached().await.held, [grant]);
    node.pass(10 * SECOND).await;
    assert!(node.lives(session));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_opens_while_its_relay_dies_has_the_time_of_the_others() {
    let node = TestNode::leading().await;
    let a = node.stream(1).await;
    node.fake.applying.shut();
    a.open(1, 60_000, release(0)).await;
    node.pass(SECOND).await;
    a.relay_dies().await;
    node.fake.applying.open();
    node.until(|state| state.session_count() == 1).await;
    let before = node.world.now();
    node.until(|state| state.session_count() == 0).await;
    assert!(node.world.now() - before >= 3 * SECOND, "only a word about the client would end it sooner");
}

/// A call about a session, and what is answered.
async fn call(node: &TestNode, session: u64, body: Asks) -> oneshot::Receiver<ServerFrame> {
    let request = admit(ClientFrame { call: 0, body: Some(body) }, 200..=600_000, 0).expect("it is allowed");
    let (answer, answered) = oneshot::channel();
    node.inputs.send(Input::Call { session: SessionId(session), request, answer }).await.expect("the driver runs");
    answered
}

fn renew(session: u64) -> Asks {
    Asks::KeepAlive(KeepAlive { sessions: vec![session] })
}

async fn answer(node: &TestNode, answered: oneshot::Receiver<ServerFrame>) -> Body {
    let frame = node.world.timeout(BOUND, answered).await.expect("in time").expect("it is answered");
    frame.body.expect("an answer has a body")
}

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_to_its_caller_and_events_go_to_the_stream() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(500, KEEP).await;
    for _ in 0..8 {
        node.pass(Duration::from_millis(200)).await;
        let answered = call(&node, session, renew(session)).await;
        assert!(matches!(answer(&node, answered).await, Body::KeptAlive(kept) if kept.sessions == [session]));
    }
    assert_eq!(a.ended().await, (session, "expired".to_owned()), "nothing else was told on the stream");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_waits_for_the_fate_of_an_end_is_told_of_the_end() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(500, KEEP).await;
    node.fake.applying.shut();
    node.pass(SECOND).await; // its end is in flight
    let answered = call(&node, session, renew(session)).await;
    node.pass(SECOND).await;
    node.fake.applying.open();
    match answer(&node, answered).await {
        Body::Refused(refused) => assert_eq!(refused.error.unwrap().kind(), Kind::SessionEnded),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert_eq!(a.ended().await.0, session);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_stream_ends_is_not_answered_by_another() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(60_000, KEEP).await;
    node.fake.rounds.shut();
    let answered = call(&node, session, renew(session)).await;
    a.dies().await;
    node.fake.rounds.open();
    let outcome = node.world.timeout(BOUND, answered).await.expect("in time");
    assert!(outcome.is_err(), "nothing is known: {outcome:?}");
    let answered = call(&node, session, renew(session)).await;
    match answer(&node, answered).await {
        Body::Refused(refused) => assert_eq!(refused.error.unwrap().field, "session"),
        other => panic!("expected a refusal, got {other:?}"),
    }
}
