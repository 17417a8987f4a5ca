//! Single requests: what is sent again, what never is, and what is known when it fails.

use std::time::Duration;

use palisade_client::{Client, ClientConfig, ConfigError, ErrorKind, Outcome, PutOptions, Session};
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::status::not_applied;
use palisade_world::World;

use crate::fake_store::{FakeStore, NextPut, Told};
use crate::leadership::dead_address;
use crate::proxy::Proxy;
use crate::{client, client_with, session, within};

fn put<'a>(key: &str, session: Option<&'a Session>) -> PutOptions<'a> {
    PutOptions { session, ..PutOptions::new(key, "v") }
}

fn is_put(told: &Told) -> bool {
    matches!(told, Told::Put { .. })
}

#[tokio::test]
pub(crate) async fn a_put_whose_connection_breaks_after_sending_is_unknown_and_never_sent_again() {
    let node = FakeStore::start().await;
    let proxy = Proxy::to(&node.address).await;
    let client = client(&[&proxy.address]);
    node.store.next_put(NextPut::ApplyInSilence);
    let (result, _) = tokio::join!(within("an error", client.put(put("k", None))), async {
        node.store.until(is_put).await;
        proxy.cut();
    });
    let error = result.unwrap_err();
    assert_eq!((error.outcome, error.kind), (Outcome::Unknown, ErrorKind::ConnectionLost), "{error}");
    // It was applied, once; the next request goes through as if nothing had been.
    within("the next", client.put(put("other", None))).await.unwrap();
    let keys: Vec<_> = node.store.told().into_iter().filter(is_put).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert_eq!(node.store.value(b"k"), Some((b"v".to_vec(), 1)));
}

#[tokio::test]
async fn a_put_that_carries_a_request_id_is_sent_again_and_takes_effect_once() {
    let node = FakeStore::start().await;
    let proxy = Proxy::to(&node.address).await;
    let client = client(&[&proxy.address]);
    let session = session(&client, 5_000).await;
    node.store.next_put(NextPut::ApplyInSilence);
    let (result, _) = tokio::join!(within("an answer", client.put(put("k", Some(&session)))), async {
        node.store.until(is_put).await;
        proxy.cut();
    });
    assert_eq!(result.unwrap().version, Some(1));
    let ids: Vec<_> = node
        .store
        .told()
        .into_iter()
        .filter_map(|told| match told {
            Told::Put { request_id, .. } => Some(request_id.unwrap()),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
    assert_eq!((ids[0].session, ids[0].serial, ids[0].acked_below), (session.id(), 1, 1));
    assert_eq!(node.store.value(b"k"), Some((b"v".to_vec(), 1)));
    // The answer was received: the store may forget it.
    within("the next", client.put(put("k", Some(&session)))).await.unwrap();
    let Told::Put { request_id: Some(id), .. } = node.store.told().pop().unwrap() else { unreachable!() };
    assert_eq!((id.serial, id.acked_below), (2, 2));
}

#[tokio::test]
async fn a_connection_that_was_never_made_is_not_applied_and_tried_elsewhere() {
    let node = FakeStore::start().await;
    let dead = dead_address().await;
    // Whoever is asked first: both ways.
    for _ in 0..8 {
        let client = client(&[&dead, &node.address]);
        within("the living one answers", client.put(put("k", None))).await.unwrap();
    }
    let client = client_with(&[&dead], Duration::from_millis(300));
    let error = within("an error", client.put(put("k", None))).await.unwrap_err();
    assert_eq!((error.outcome, error.kind), (Outcome::NotApplied, ErrorKind::NoStoreLeader), "{error}");
}

#[tokio::test]
async fn no_answer_in_time_is_unknown_for_a_write_and_not_for_a_read() {
    let node = FakeStore::start().await;
    let proxy = Proxy::to(&node.address).await;
    let client = client_with(&[&proxy.address], Duration::from_millis(300));
    proxy.silence();
    let error = within("an error", client.get(b"k".to_vec())).await.unwrap_err();
    assert_eq!(error.outcome, Outcome::NotApplied, "{error}");
    let error = within("an error", client.put(put("k", None))).await.unwrap_err();
    assert_eq!((error.outcome, error.kind), (Outcome::Unknown, ErrorKind::TimedOut), "{error}");
}

#[tokio::test]
async fn what_is_surely_not_applied_is_sent_again_also_without_a_request_id() {
    let node = FakeStore::start().await;
    let client = client(&[&node.address]);
    for kind in [Kind::Overloaded, Kind::NoStoreLeader, Kind::Unspecified] {
        node.store.next_put(NextPut::Refuse(not_applied(kind, "")));
    }
    assert_eq!(within("an answer", client.put(put("k", None))).await.unwrap().version, Some(1));
    assert_eq!(node.store.told().into_iter().filter(is_put).count(), 4);
    // A refusal that repeating cannot change is final.
    node.store.next_put(NextPut::Refuse(not_applied(Kind::StaleToken, "campaign again")));
    let error = within("an error", client.put(put("k", None))).await.unwrap_err();
    assert_eq!(
        (error.outcome, error.kind, error.hint.as_str()),
        (Outcome::NotApplied, ErrorKind::StaleToken, "campaign again")
    );
    assert_eq!(node.store.told().into_iter().filter(is_put).count(), 5);
}

#[tokio::test]
async fn the_hint_of_a_follower_is_followed_outside_the_list_and_remembered() {
    let leader = FakeStore::start().await;
    let follower = FakeStore::follower(&leader.address).await;
    let client = client(&[&follower.address]);
    within("an answer", client.put(put("k", None))).await.unwrap();
    assert_eq!(within("an answer", client.get(b"k".to_vec())).await.unwrap().kv.unwrap().value, b"v");
    drop(follower);
    within("nobody but the leader is asked", client.put(put("k", None))).await.unwrap();
}

#[tokio::test]
async fn an_answer_of_another_cluster_is_refused() {
    let (ours, other) = (FakeStore::of_cluster(7).await, FakeStore::of_cluster(8).await);
    let client = client(&[&ours.address]);
    within("the first answer names the cluster", client.put(put("k", None))).await.unwrap();
    ours.store.follow(&other.address);
    let error = within("an error", client.get(b"k".to_vec())).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::WrongCluster, Outcome::NotApplied));
    let error = within("an error", client.put(put("k", None))).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::WrongCluster, Outcome::Unknown), "it was written, elsewhere");
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_words() {
    let new = |endpoints: &[&str], request_timeout| {
        let endpoints = endpoints.iter().map(|it| (*it).to_owned()).collect();
        Client::new(ClientConfig { endpoints, request_timeout }, World::real()).map(|_| ()).unwrap_err()
    };
    let second = Duration::from_secs(1);
    assert_eq!(new(&[], second), ConfigError::NoEndpoints);
    assert_eq!(new(&["a:1"], Duration::ZERO), ConfigError::NoTime);
    let error = new(&["a:1", "no-port"], second);
    assert_eq!(error.to_string(), "endpoints: address: 'no-port': there is no port (expected HOST:PORT)");
}
