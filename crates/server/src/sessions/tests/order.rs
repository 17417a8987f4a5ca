//! What one session is told is in the order of `seq`, whichever way it comes.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use palisade_coord_core::{EndReason, Event, Guard, Op, Revision, Seq, SessionId, Wish};
use palisade_fence::{ClusterId, Token};
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::server_frame::Body;

use super::{KEEP, TestNode, release};
use crate::hub::Applied;

fn end(session: u64, why: EndReason) -> Op {
    Op::EndSession { session: SessionId(session), why, only_if: None }
}

fn resign(election: &str, token: u64) -> Op {
    let token = Token::from_wire(token).expect("a token");
    Op::Resign { election: election.to_owned(), token, by: None, guard: Guard::Break }
}

#[tokio::test(start_paused = true)]
async fn a_campaign_is_granted_at_once_or_waits_for_its_grant() {
    let node = TestNode::leading().await;
    let (mut a, mut b) = (node.stream(1).await, node.stream(2).await);
    let (first, second) = (a.opened(10_000, KEEP).await, b.opened(10_000, KEEP).await);
    a.campaign(1, first, 1, "e").await;
    let grant = a.campaigned().await.expect("nobody else wants it");
    b.campaign(1, second, 1, "e").await;
    assert_eq!(b.campaigned().await, None);

    a.close(2, first).await;
    assert!(matches!(a.next().await, (2, Body::Closed(closed)) if closed.session == first));
    assert_eq!(a.ended().await, (first, "closed".to_owned()), "a grant at once is not told again as an event");
    let next = b.granted().await;
    assert!(next.token > grant.token);
    assert_eq!((next.session, next.serial), (second, 1));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_quicker_than_the_answer_to_its_campaign_comes_after_it() {
    let node = TestNode::leading().await;
    let (mut a, mut b) = (node.stream(1).await, node.stream(2).await);
    let (first, second) = (a.opened(10_000, KEEP).await, b.opened(10_000, KEEP).await);
    a.campaign(1, first, 1, "e").await;
    a.campaigned().await.expect("nobody else wants it");

    node.fake.answering.shut();
    b.campaign(1, second, 1, "e").await;
    node.until(|state| state.election("e").is_some_and(|election| election.queue.len() == 1)).await;
    let (seq, _) = node.fake.apply(end(first, EndReason::Removed));
    assert_eq!(a.ended().await, (first, "removed".to_owned()), "others are told at once");
    node.fake.answering.open();
    assert_eq!(b.campaigned().await, None);
    assert_eq!(b.granted().await.seq, seq.get());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_a_grant_while_the_end_before_it_is_only_proposed() {
    let node = TestNode::leading().await;
    let (mut a, mut b) = (node.stream(1).await, node.stream(2).await);
    let (first, second) = (a.opened(10_000, release(0)).await, b.opened(10_000, KEEP).await);
    a.campaign(1, first, 1, "e").await;
    a.campaigned().await.expect("nobody else wants it");
    b.campaign(1, second, 1, "e").await;
    assert_eq!(b.campaigned().await, None);

    node.fake.applying.shut();
    a.dies().await;
    node.pass(Duration::from_millis(500)).await;
    assert!(b.frames.next().now_or_never().is_none(), "it was told before the end was committed");
    node.fake.applying.open();
    assert_eq!(b.granted().await.session, second);
}

#[cfg(feature = "planted")]
#[test]
fn the_planted_bug_that_grants_before_the_end_is_caught() {
    use palisade_planted::{Bug, caught};
    let why = caught(Bug::GrantBeforeEnd, nobody_is_told_of_a_grant_while_the_end_before_it_is_only_proposed);
    assert_eq!(why.as_deref(), Some("it was told before the end was committed"));
}

#[tokio::test(start_paused = true)]
async fn what_happens_around_an_attach_is_told_once_and_in_order() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(10_000, KEEP).await;
    let mut tokens = Vec::new();
    for (serial, election) in [(1, "e"), (2, "f")] {
        a.campaign(serial, session, serial, election).await;
        tokens.push(a.campaigned().await.expect("nobody else wants it").token);
    }
    a.dies().await;

    // `e` is revoked before the attach, `f` after it, and both before its answer is there.
    let mut b = node.stream(2).await;
    let _ = node.fake.apply(resign("e", tokens[0]));
    node.fake.answering.shut();
    b.attach(1, session).await;
    node.until(|state| state.session(SessionId(session)).is_some_and(|session| session.attach.get() == 2)).await;
    let _ = node.fake.apply(resign("f", tokens[1]));
    node.fake.answering.open();

    let attached = b.attached().await;
    assert_eq!(attached.attach_generation, 2);
    let held: Vec<_> = attached.held.iter().map(|grant| grant.token).collect();
    assert_eq!(held, [tokens[1]], "as of the attach's own place in the order");
    match b.next().await {
        (0, Body::Revoked(revoked)) => assert_eq!((revoked.token, revoked.serial), (tokens[1], 2)),
        other => panic!("expected a revocation, got {other:?}"),
    }
    b.keep_alive(2, &[session]).await;
    assert_eq!(b.kept_alive().await, (2, vec![session]), "and nothing more");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_it_attaches_is_told_so_after_its_attach() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(10_000, KEEP).await;
    a.dies().await;
    let mut b = node.stream(2).await;
    node.fake.answering.shut();
    b.attach(1, session).await;
    node.until(|state| state.session(SessionId(session)).is_some_and(|session| session.attach.get() == 2)).await;
    let _ = node.fake.apply(end(session, EndReason::Removed));
    node.fake.answering.open();
    b.attached().await;
    assert_eq!(b.ended().await, (session, "removed".to_owned()));
    b.keep_alive(2, &[session]).await;
    let (call, error) = b.refused().await;
    assert_eq!((call, error.kind()), (2, Kind::SessionEnded));
}

#[tokio::test(start_paused = true)]
async fn a_session_with_more_news_than_can_be_held_loses_its_stream_and_nobody_else_does() {
    let node = TestNode::leading().await;
    let (mut a, mut b) = (node.stream(1).await, node.stream(2).await);
    let (first, second) = (a.opened(10_000, release(0)).await, b.opened(10_000, release(0)).await);
    node.fake.answering.shut();
    a.campaign(1, first, 1, "e").await;
    node.until(|state| state.leader("e").is_some()).await;
    let asked = Event::SessionAsked { session: SessionId(first), wish: Wish::Close };
    let (cluster, seq, events) = (ClusterId(7), Seq(10_000), vec![asked; 5_000]);
    node.fake.hub.publish(Applied { cluster, generation: 0, seq, revision: Revision(0), events });
    node.fake.answering.open();
    a.campaigned().await.expect("nobody else wants it");
    assert_eq!(a.end().await.kind(), Kind::Overloaded);

    b.keep_alive(2, &[second]).await;
    assert_eq!(b.kept_alive().await, (2, vec![second]));
    // It was this node's doing: a session that is released when its stream breaks is there still.
    let mut again = node.stream(3).await;
    again.attach(1, first).await;
    assert_eq!(again.attached().await.held.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn frames_of_one_session_take_effect_in_their_order() {
    let node = TestNode::leading().await;
    let mut a = node.stream(1).await;
    let session = a.opened(10_000, release(0)).await;
    node.fake.applying.shut();
    for serial in 1..=50 {
        a.campaign(serial, session, serial, &format!("e{serial}")).await;
    }
    a.close(51, session).await;
    node.fake.applying.open();
    let mut last = 0;
    for serial in 1..=50 {
        let (call, Body::Campaigned(campaigned)) = a.next().await else { panic!("in order") };
        let seq = campaigned.header.expect("every reply has a header").seq;
        assert!(call == serial && seq > last, "{call} {seq}");
        last = seq;
    }
    assert!(matches!(a.next().await, (51, Body::Closed(_))));
}
