//! Any node serves any client: what a node that does not lead the store does with a call.

use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::observe_event;
use palisade_wire::coord::v1::{Fence, GetRequest, LeaderRequest, ObserveRequest, PutRequest, ResignRequest};
use palisade_wire::metadata;
use palisade_wire::status::detail;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::cluster::{Cluster, name, soon};
use crate::session::SessionStream;

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn get(key: &str) -> GetRequest {
    GetRequest { key: key.into(), ..GetRequest::default() }
}

fn with<T>(name: &'static str, value: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, MetadataValue::from_static(value));
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_serves_writes_and_reads_and_says_what_the_store_leader_says() {
    let cluster = Cluster::start(3, 71).await;
    let leader = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, leader).await;
    let session = stream.open().await;
    let grant = stream.campaign(session, 1, "e", "a").await.expect("nobody else campaigns");
    for id in cluster.followers(leader).await {
        let mut kv = cluster.kv(id);
        let key = format!("k{id}");
        let written = kv.put(put(&key, "v")).await.unwrap().into_inner();
        // Linearizable: a read through any node sees it.
        let read = kv.get(get(&key)).await.unwrap().into_inner();
        assert_eq!(read.kv.unwrap().value, b"v");
        assert!(read.header.unwrap().seq >= written.header.unwrap().seq);

        let fence = Some(Fence { election: "e".to_owned(), token: grant.token + 1 });
        let stale = detail(&kv.put(PutRequest { fence, ..put(&key, "x") }).await.unwrap_err()).expect("typed");
        assert_eq!((stale.kind(), stale.outcome()), (Kind::StaleToken, Outcome::NotApplied));
        assert_eq!((stale.current_token, stale.header.is_some()), (grant.token, true), "it is the state machine's own");
        let large = detail(&kv.put(put(&key, &"x".repeat(2 << 20))).await.unwrap_err()).expect("typed");
        assert_eq!((large.kind(), large.outcome()), (Kind::InvalidArgument, Outcome::NotApplied));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_to_be_forwarded_or_was_already_is_refused_with_a_hint() {
    let cluster = Cluster::start(3, 72).await;
    let leader = cluster.leader().await;
    for other in cluster.followers(leader).await {
        for (key, value) in [(metadata::FORWARD, metadata::NO), (metadata::FORWARDED, "7")] {
            let refused = cluster.kv(other).put(with(key, value, put("k", "v"))).await.unwrap_err();
            let refused = detail(&refused).expect("typed");
            assert_eq!((refused.kind(), refused.outcome()), (Kind::NotStoreLeader, Outcome::NotApplied));
            let hint = refused.store_leader.expect("it names the store leader");
            assert_eq!((hint.node_id, hint.address), (leader, name(leader)));
            let read = detail(&cluster.kv(other).get(with(key, value, get("k"))).await.unwrap_err()).unwrap();
            assert_eq!((read.kind(), read.outcome()), (Kind::NotStoreLeader, Outcome::NotApplied));
        }
        let relayed = with(metadata::RELAY, "7", tokio_stream::pending());
        let refused = detail(&cluster.sessions(other).stream(relayed).await.unwrap_err()).expect("typed");
        assert_eq!((refused.kind(), refused.outcome()), (Kind::NotStoreLeader, Outcome::NotApplied));
    }
    assert_eq!(cluster.kv(leader).get(get("k")).await.unwrap().into_inner().kv, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_connection_to_the_store_leader_says_not_applied() {
    let cluster = Cluster::start(3, 73).await;
    let leader = cluster.leader().await;
    let other = cluster.followers(leader).await[0];
    cluster.net.cut(&name(other), &name(leader));
    let refused = detail(&cluster.kv(other).put(put("k", "v")).await.unwrap_err()).expect("typed");
    assert_eq!((refused.kind(), refused.outcome()), (Kind::NoStoreLeader, Outcome::NotApplied));
    let session = cluster.sessions(other).stream(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(detail(&session).expect("typed").kind(), Kind::NoStoreLeader);

    cluster.net.mend(&name(other), &name(leader));
    cluster.kv(other).put(put("k", "w")).await.unwrap();
    assert_eq!(cluster.kv(leader).get(get("k")).await.unwrap().into_inner().kv.unwrap().version, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serializable_read_is_served_by_the_node_that_gets_it() {
    let cluster = Cluster::start(3, 75).await;
    let leader = cluster.leader().await;
    let other = cluster.followers(leader).await[0];
    let ask = |serializable| LeaderRequest { election: "e".to_owned(), serializable };
    assert!(cluster.elections(other).leader(ask(false)).await.is_ok());
    cluster.net.cut(&name(other), &name(leader));
    assert!(cluster.elections(other).leader(ask(true)).await.is_ok(), "it needs nobody");
    assert!(cluster.elections(other).leader(ask(false)).await.is_err(), "that would be a guess");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_at_any_node_hears_every_change_and_of_a_broken_link() {
    let cluster = Cluster::start(3, 74).await;
    let leader = cluster.leader().await;
    let other = cluster.followers(leader).await[0];
    let observe = ObserveRequest { election: "e".to_owned(), from: None };
    let mut observed = cluster.elections(other).observe(observe.clone()).await.unwrap().into_inner();
    let next = async |observed: &mut tonic::Streaming<_>| soon(&cluster.world, "news", observed.message()).await;
    let first: palisade_wire::coord::v1::ObserveReply = next(&mut observed).await.unwrap().unwrap();
    assert!(matches!(first.events[0].kind, Some(observe_event::Kind::State(_))));

    let mut stream = SessionStream::connect(&cluster, other).await;
    let session = stream.open().await;
    let grant = stream.campaign(session, 1, "e", "a").await.expect("nobody else campaigns");
    let elected = next(&mut observed).await.unwrap().unwrap();
    assert!(
        matches!(&elected.events[0].kind, Some(observe_event::Kind::Elected(it)) if it.leader.as_ref() == Some(&grant))
    );
    let resign = ResignRequest { election: "e".to_owned(), token: grant.token, session, ..ResignRequest::default() };
    cluster.elections(other).resign(resign).await.unwrap();
    let vacant = next(&mut observed).await.unwrap().unwrap();
    assert!(matches!(vacant.events[0].kind, Some(observe_event::Kind::Vacant(_))));

    cluster.net.cut(&name(other), &name(leader));
    let broken = detail(&next(&mut observed).await.unwrap_err()).expect("typed, so that it is resumed");
    assert_eq!((broken.kind(), broken.outcome()), (Kind::NoStoreLeader, Outcome::NotApplied));
    cluster.net.mend(&name(other), &name(leader));
    let mut again = cluster.elections(other).observe(observe).await.unwrap().into_inner();
    assert!(next(&mut again).await.unwrap().is_some());
}
