//! What an observer sees.

use palisade_wire::coord::v1::election_service_client::ElectionServiceClient;
use palisade_wire::coord::v1::error_detail::{Kind as ErrorKind, Outcome};
use palisade_wire::coord::v1::observe_event::{self, Kind};
use palisade_wire::coord::v1::{
    Grant, HistoryRequest, LeaderRequest, LeaderValue, ListElectionsRequest, ObserveFrom, ObserveReply, ObserveRequest,
    ProclaimRequest, ResignRequest, server_frame,
};
use palisade_wire::status::detail;
use tonic::transport::Channel;
use tonic::{Response, Streaming};

use crate::cluster::{Cluster, soon};
use crate::session::SessionStream;

async fn next(cluster: &Cluster, stream: &mut Streaming<ObserveReply>) -> (u64, Kind) {
    let reply = soon(&cluster.world, "an event", stream.message()).await.unwrap().expect("the stream goes on");
    assert_eq!(reply.events.len(), 1, "{reply:?}");
    (reply.header.unwrap().seq, reply.events.into_iter().next().unwrap().kind.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observe_says_no_leader_first_and_then_every_change_in_order() {
    let cluster = Cluster::start(3, 11).await;
    let leader = cluster.leader().await;
    let mut elections = cluster.elections(leader);
    let election = || "e".to_owned();
    let mut observed =
        elections.observe(ObserveRequest { election: election(), from: None }).await.unwrap().into_inner();
    let (mut seq, state) = next(&cluster, &mut observed).await;
    assert_eq!(state, Kind::State(observe_event::State { leader: None }));
    assert_eq!(
        elections
            .leader(LeaderRequest { election: election(), serializable: false })
            .await
            .unwrap()
            .into_inner()
            .leader,
        None
    );

    let mut stream = SessionStream::connect(&cluster, leader).await;
    let (one, two) = (stream.open().await, stream.open().await);
    let first: Grant = stream.campaign(one, 1, "e", "a").await.expect("nobody leads");
    assert_eq!(stream.campaign(two, 1, "e", "b").await, None, "a leads");
    let mut rises = |at: u64| {
        assert!(at > seq, "the order only rises: {at} after {seq}");
        seq = at;
    };
    let (at, event) = next(&cluster, &mut observed).await;
    rises(at);
    let elected = |leader: &Grant, previous_token, why: &str| {
        Kind::Elected(observe_event::Elected { leader: Some(leader.clone()), previous_token, why: why.to_owned() })
    };
    assert_eq!((at, event), (first.seq, elected(&first, 0, "")));

    let value = LeaderValue { address: "a:2".to_owned(), ..LeaderValue::default() };
    let proclaim =
        ProclaimRequest { election: election(), token: first.token, value: Some(value.clone()), request_id: None };
    elections.proclaim(proclaim).await.unwrap();
    let (at, event) = next(&cluster, &mut observed).await;
    rises(at);
    let first = Grant { value: Some(value), ..first };
    assert_eq!(event, Kind::ValueChanged(observe_event::ValueChanged { leader: Some(first.clone()) }));

    // The hand-over is one event.
    let resign = |token, session| ResignRequest { election: election(), token, session, ..ResignRequest::default() };
    elections.resign(resign(first.token, one)).await.unwrap();
    let revoked = stream.event().await;
    let (revoked, granted) = match (revoked, stream.event().await) {
        (server_frame::Body::Revoked(revoked), server_frame::Body::Granted(granted))
        | (server_frame::Body::Granted(granted), server_frame::Body::Revoked(revoked)) => (revoked, granted),
        other => panic!("expected revoked and granted, got {other:?}"),
    };
    assert_eq!((revoked.session, revoked.token, revoked.why.as_str()), (one, first.token, "resigned"));
    let second = granted.grant.unwrap();
    assert!(second.session == two && second.token > first.token);
    let (at, event) = next(&cluster, &mut observed).await;
    rises(at);
    assert_eq!(event, elected(&second, first.token, "resigned"));

    let mut late = elections.observe(ObserveRequest { election: election(), from: None }).await.unwrap().into_inner();
    assert_eq!(next(&cluster, &mut late).await.1, Kind::State(observe_event::State { leader: Some(second.clone()) }));
    let listed = elections.list(ListElectionsRequest::default()).await.unwrap().into_inner().elections;
    assert_eq!(listed.len(), 1);
    // A list is told without values: each may be 64 KiB.
    let without_value = Grant { value: None, ..second.clone() };
    assert_eq!((listed[0].leader.as_ref(), listed[0].waiting), (Some(&without_value), 0));

    elections.resign(resign(second.token, two)).await.unwrap();
    let vacant = Kind::Vacant(observe_event::Vacant { previous_token: second.token, why: "resigned".to_owned() });
    let (at, event) = next(&cluster, &mut observed).await;
    rises(at);
    assert_eq!(event, vacant);
    assert_eq!(next(&cluster, &mut late).await, (at, vacant));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_is_let_go_when_its_node_stops() {
    let mut cluster = Cluster::start(3, 12).await;
    let leader = cluster.leader().await;
    let mut elections = cluster.elections(leader);
    let mut observed =
        elections.observe(ObserveRequest { election: "e".to_owned(), from: None }).await.unwrap().into_inner();
    next(&cluster, &mut observed).await;
    let world = cluster.world.clone();
    cluster.stop_node(leader).await;
    let ended = soon(&world, "the end of the stream", observed.message()).await;
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_says_who_led_and_priority_who_is_next() {
    let cluster = Cluster::start(3, 12).await;
    let leader = cluster.leader().await;
    let mut elections = cluster.elections(leader);
    let history = || HistoryRequest { election: "e".to_owned(), serializable: false };
    let unknown = detail(&elections.history(history()).await.unwrap_err()).unwrap();
    assert_eq!((unknown.kind(), unknown.outcome()), (ErrorKind::ElectionNotFound, Outcome::NotApplied));

    let mut stream = SessionStream::connect(&cluster, leader).await;
    let session = stream.open().await;
    let first = stream.campaign(session, 1, "e", "a").await.expect("nobody leads");
    assert_eq!(stream.campaign(session, 2, "e", "b").await, None);
    assert_eq!(stream.campaign_with_priority(session, 3, "e", "c", 7).await, None);
    let resign = ResignRequest { election: "e".to_owned(), token: first.token, session, ..ResignRequest::default() };
    elections.resign(resign).await.unwrap();
    let leader = elections
        .leader(LeaderRequest { election: "e".to_owned(), serializable: false })
        .await
        .unwrap()
        .into_inner()
        .leader;
    assert_eq!(leader.map(|leader| leader.candidate_id).as_deref(), Some("c"));

    let reply = elections.history(history()).await.unwrap().into_inner();
    let [reign] = &reply.reigns[..] else { panic!("{reply:?}") };
    assert_eq!((reign.token, reign.candidate_id.as_str(), reign.why.as_str()), (first.token, "a", "resigned"));
    assert_eq!((reign.since_seq, reply.complete_after_seq), (first.seq, 0));
    assert!(reign.until_seq > reign.since_seq && reign.until_seq <= reply.header.unwrap().seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_resumes_at_the_next_store_leader_and_misses_nothing() {
    let mut cluster = Cluster::start(3, 13).await;
    let before = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, before).await;
    let session = stream.open().await;
    let first = stream.campaign(session, 1, "e", "a").await.expect("nobody leads");
    let proclaim = |mut elections: ElectionServiceClient<Channel>, address: &str| {
        let value = Some(LeaderValue { address: address.to_owned(), ..LeaderValue::default() });
        let request = ProclaimRequest { election: "e".to_owned(), token: first.token, value, request_id: None };
        async move { elections.proclaim(request).await.unwrap().into_inner().header.unwrap().seq }
    };
    let mut expected = Vec::new();
    for address in ["a:2", "a:3"] {
        expected.push(proclaim(cluster.elections(before), address).await);
    }
    cluster.stop_node(before).await;
    let after = cluster.leader().await;

    let request =
        |generation, seq| ObserveRequest { election: "e".to_owned(), from: Some(ObserveFrom { generation, seq }) };
    let observe = async |request: &dyn Fn() -> ObserveRequest| {
        let accepted = async || cluster.elections(after).observe(request()).await.ok().map(Response::into_inner);
        cluster.until("a store leader that is confirmed", accepted).await
    };
    let mut observed = observe(&|| request(Some(0), first.seq)).await;
    expected.push(proclaim(cluster.elections(after), "a:4").await);
    for seq in expected {
        let (at, event) = next(&cluster, &mut observed).await;
        assert!(at == seq && matches!(event, Kind::ValueChanged(_)), "{at}: {event:?}");
    }

    let mut restored = observe(&|| request(Some(9), first.seq)).await;
    let reply = soon(&cluster.world, "an event", restored.message()).await.unwrap().expect("the stream goes on");
    let kinds: Vec<_> = reply.events.into_iter().map(|event| event.kind.unwrap()).collect();
    assert!(matches!(&kinds[..], [Kind::Gap(gap), Kind::State(_)] if gap.why == "generation"), "{kinds:?}");
}
