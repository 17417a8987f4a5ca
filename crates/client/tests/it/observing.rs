//! Observers and followers across broken connections.

use std::sync::Arc;

use palisade_client::{Observed, ObservedKind, Observer, Value};
use palisade_fence::LeaderSource;

use crate::fake_store::FakeStore;
use crate::proxy::Proxy;
use crate::{candidate, client, session, within};

async fn next(observer: &mut Observer) -> Observed {
    within("news", observer.next()).await.unwrap()
}

#[tokio::test]
async fn it_says_no_leader_first_then_every_change_and_nothing_twice_after_a_reconnect() {
    let node = FakeStore::start().await;
    let proxy = Proxy::to(&node.address).await;
    let watcher = client(&[&proxy.address]);
    let mut observer = watcher.observe("e");
    assert_eq!(next(&mut observer).await.kind, ObservedKind::State { leader: None });

    let client = client(&[&node.address]);
    let session = session(&client, 5_000).await;
    let leadership = within("leading", session.campaign(candidate("a"))).await.unwrap();
    let elected = next(&mut observer).await;
    assert!(matches!(&elected.kind, ObservedKind::Elected { leader, .. } if leader.token == leadership.token()));

    // What the stream says first after the reconnect is known; what changes later is news.
    proxy.cut();
    within("proclaiming", leadership.proclaim(Value::at("h:9"))).await.unwrap();
    let changed = next(&mut observer).await;
    let leader = changed.kind.leader().unwrap();
    assert_eq!((leader.token, leader.value.address.as_str()), (leadership.token(), "h:9"));
    assert!(changed.seq > elected.seq);

    // What happened while nobody listened is told as the state.
    within("resigning", leadership.resign()).await.unwrap();
    let vacant = next(&mut observer).await;
    assert_eq!(vacant.kind.leader(), None);
    assert!(vacant.seq > changed.seq);
}

#[tokio::test]
async fn a_follower_has_the_newest_view_at_hand() {
    let node = FakeStore::start().await;
    let client = client(&[&node.address]);
    let follower = Arc::new(client.follow("e"));
    assert_eq!(follower.election(), "e");
    let vacant = within("the first view", follower.changed(0)).await;
    assert_eq!(vacant.token, None);

    let session = session(&client, 5_000).await;
    let leadership = within("leading", session.campaign(candidate("a"))).await.unwrap();
    let mut view = vacant;
    while view.token.is_none() {
        view = within("a leader", follower.changed(view.seq)).await;
    }
    assert_eq!((view.token, view.address.as_str()), (Some(leadership.token()), "a:1"));
    assert_eq!(follower.latest().unwrap().token, Some(leadership.token()));
    let read = within("a read", follower.read()).await.unwrap();
    assert_eq!(read.token, Some(leadership.token()));
    assert!(read.seq > view.seq, "a read is newer than what it follows");
}

#[tokio::test]
async fn a_read_that_nobody_answers_is_an_error_and_says_nothing() {
    let client = crate::client_with(&[&crate::leadership::dead_address().await], std::time::Duration::from_millis(200));
    let follower = client.follow("e");
    within("an error", follower.read()).await.unwrap_err();
    assert_eq!(follower.latest(), None);
}
