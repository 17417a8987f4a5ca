//! Calls that share one stream: each has its own answer, and a stream that breaks is as a connection that breaks.

use futures_util::future::join_all;
use palisade_client::{ErrorKind, Outcome, PutOptions, Session};
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::status::not_applied;

use crate::fake_store::{FakeStore, NextPut, Told};
use crate::proxy::Proxy;
use crate::{client, session, within};

fn put<'a>(key: &str, session: Option<&'a Session>) -> PutOptions<'a> {
    PutOptions { session, ..PutOptions::new(key, "v") }
}

fn is_put(told: &Told) -> bool {
    matches!(told, Told::Put { .. })
}

#[tokio::test]
async fn many_calls_of_one_stream_each_have_their_own_answer() {
    let node = FakeStore::start().await;
    let pipeline = client(&[&node.address]).pipeline();
    let calls = (0..2_000u32).map(|n| {
        let pipeline = pipeline.clone();
        async move {
            let (key, value) = (n.to_be_bytes().to_vec(), n.to_string().into_bytes());
            let put = PutOptions::new(key.clone(), value.clone());
            assert_eq!(pipeline.put(put).await.unwrap().version, Some(1));
            assert_eq!(pipeline.get(key).await.unwrap().kv.unwrap().value, value);
        }
    });
    within("all answers", join_all(calls)).await;
    assert_eq!(within("no such key", pipeline.get(b"absent".to_vec())).await.unwrap().kv, None);
}

#[tokio::test]
async fn calls_whose_stream_breaks_are_unknown_and_only_those_with_an_id_are_sent_again() {
    let node = FakeStore::start().await;
    let proxy = Proxy::to(&node.address).await;
    let client = client(&[&proxy.address]);
    let session = session(&client, 5_000).await;
    let pipeline = client.pipeline();
    node.store.next_put(NextPut::ApplyInSilence);
    node.store.next_put(NextPut::ApplyInSilence);
    let both = async { tokio::join!(pipeline.put(put("without", None)), pipeline.put(put("with", Some(&session)))) };
    let ((without, with), ()) = tokio::join!(within("both end", both), async {
        node.store.until(|told| matches!(told, Told::Put { key, .. } if key == b"without")).await;
        node.store.until(|told| matches!(told, Told::Put { key, .. } if key == b"with")).await;
        proxy.cut();
    });
    let error = without.unwrap_err();
    assert_eq!((error.outcome, error.kind), (Outcome::Unknown, ErrorKind::ConnectionLost), "{error}");
    assert_eq!(with.unwrap().version, Some(1));
    let puts = |key: &[u8]| {
        let told = node.store.told();
        told.into_iter().filter(|told| matches!(told, Told::Put { key: it, .. } if it == key)).count()
    };
    assert_eq!((puts(b"without"), puts(b"with")), (1, 2));
    assert_eq!(node.store.value(b"with"), Some((b"v".to_vec(), 1)), "it took effect once");
    // The stream that comes after serves as if nothing had been.
    within("the next", pipeline.put(put("next", None))).await.unwrap();
}

#[tokio::test]
async fn the_stream_moves_to_the_store_leader() {
    let leader = FakeStore::start().await;
    let follower = FakeStore::follower(&leader.address).await;
    let pipeline = client(&[&follower.address]).pipeline();
    within("an answer", pipeline.put(put("k", None))).await.unwrap();
    // It leads no longer: what it refuses is sent to the other.
    leader.store.follow(&follower.address);
    follower.store.lead();
    within("an answer", pipeline.put(put("k", None))).await.unwrap();
    assert_eq!(follower.store.value(b"k"), Some((b"v".to_vec(), 1)));
}

#[tokio::test]
async fn what_is_surely_not_applied_is_sent_again_and_what_is_refused_is_not() {
    let node = FakeStore::start().await;
    let pipeline = client(&[&node.address]).pipeline();
    for kind in [Kind::Overloaded, Kind::NoStoreLeader] {
        node.store.next_put(NextPut::Refuse(not_applied(kind, "")));
    }
    assert_eq!(within("an answer", pipeline.put(put("k", None))).await.unwrap().version, Some(1));
    node.store.next_put(NextPut::Refuse(not_applied(Kind::StaleToken, "campaign again")));
    let error = within("an error", pipeline.put(put("k", None))).await.unwrap_err();
    assert_eq!((error.outcome, error.kind), (Outcome::NotApplied, ErrorKind::StaleToken));
    assert_eq!(node.store.told().into_iter().filter(is_put).count(), 4);
}

#[tokio::test]
async fn calls_end_when_their_time_is_up() {
    let node = FakeStore::start().await;
    let proxy = Proxy::to(&node.address).await;
    let client = crate::client_with(&[&proxy.address], std::time::Duration::from_millis(300));
    let pipeline = client.pipeline();
    proxy.silence();
    let error = within("an error", pipeline.get(b"k".to_vec())).await.unwrap_err();
    assert_eq!(error.outcome, Outcome::NotApplied, "{error}");
}
