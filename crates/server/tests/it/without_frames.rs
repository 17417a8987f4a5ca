//! Sessions of clients that send no frames: a stream that only the store sends on, and calls, at whichever node.

use palisade_wire::coord::v1::attach_request::How;
use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::on_disconnect::Kind as Disconnect;
use palisade_wire::coord::v1::server_frame::Body;
use palisade_wire::coord::v1::{
    AttachRequest, AttachSession, Campaign, KeepAlive, OnDisconnect, OpenSession, ResignRequest, ServerFrame,
};
use palisade_wire::status::detail;
use tonic::{Status, Streaming};

use crate::cluster::{Cluster, soon};
use crate::session::LONG_TTL_MS;

fn open(kind: Disconnect, ttl_ms: u64) -> AttachRequest {
    let on_disconnect = Some(OnDisconnect { kind: Some(kind) });
    AttachRequest { how: Some(How::Open(OpenSession { ttl_ms, on_disconnect, session_id: 0 })) }
}

fn attach(session: u64) -> AttachRequest {
    AttachRequest { how: Some(How::Attach(AttachSession { session })) }
}

fn campaign(session: u64, serial: u64, id: &str) -> Campaign {
    Campaign { session, serial, election: "e".to_owned(), candidate_id: id.to_owned(), ..Campaign::default() }
}

async fn frame(cluster: &Cluster, stream: &mut Streaming<ServerFrame>) -> Body {
    let frame = soon(&cluster.world, "a frame", stream.message()).await.unwrap().expect("the stream goes on");
    frame.body.expect("frames have a body")
}

async fn begin(cluster: &Cluster, node: u64, request: AttachRequest) -> Result<Streaming<ServerFrame>, Status> {
    Ok(soon(&cluster.world, "a stream", cluster.sessions(node).attach(request)).await?.into_inner())
}

/// A session that is released at once, through some node.
async fn opened(cluster: &Cluster, node: u64) -> (Streaming<ServerFrame>, u64) {
    let mut stream = begin(cluster, node, open(Disconnect::ReleaseAfterMs(0), LONG_TTL_MS)).await.unwrap();
    match frame(cluster, &mut stream).await {
        Body::Opened(opened) => (stream, opened.session),
        other => panic!("expected a session, got {other:?}"),
    }
}

async fn leads_and_hands_over(cluster: &Cluster, nodes: [u64; 3]) {
    let ((mut one, first), (mut two, second)) = (opened(cluster, nodes[0]).await, opened(cluster, nodes[1]).await);
    // Calls reach a session from anywhere.
    let mut anywhere = cluster.sessions(nodes[2]);
    let grant =
        anywhere.campaign(campaign(first, 1, "a")).await.unwrap().into_inner().grant.expect("nobody else stands");
    assert_eq!(anywhere.campaign(campaign(second, 1, "b")).await.unwrap().into_inner().grant, None);
    assert_eq!(anywhere.campaign(campaign(second, 1, "b")).await.unwrap().into_inner().grant, None, "the same place");
    let kept = anywhere.keep_alive(KeepAlive { sessions: vec![first, second, 1 << 40] }).await.unwrap().into_inner();
    assert_eq!(kept.sessions, [first, second], "the third never was");

    let resign = ResignRequest { election: "e".to_owned(), token: grant.token, session: first, ..Default::default() };
    cluster.elections(nodes[2]).resign(resign).await.unwrap();
    assert!(matches!(frame(cluster, &mut one).await, Body::Revoked(it) if it.token == grant.token));
    let next = match frame(cluster, &mut two).await {
        Body::Granted(granted) => granted.grant.expect("a grant is granted"),
        other => panic!("expected a grant, got {other:?}"),
    };
    assert!(next.token > grant.token);

    // The same session on a new stream is told what it holds; the old stream counts no more.
    let mut again = begin(cluster, nodes[0], attach(second)).await.unwrap();
    assert!(matches!(frame(cluster, &mut again).await, Body::Attached(it) if it.held == [next.clone()]));
    drop(two);
    anywhere.keep_alive(KeepAlive { sessions: vec![second] }).await.unwrap();

    // The break of the stream is the disconnect.
    anywhere.campaign(campaign(first, 2, "a")).await.unwrap();
    drop(again);
    assert!(
        matches!(frame(cluster, &mut one).await, Body::Granted(it) if it.grant.as_ref().is_some_and(|it| it.serial == 2))
    );
    let ended = detail(&anywhere.keep_alive(KeepAlive { sessions: vec![second] }).await.unwrap_err()).expect("typed");
    assert_eq!((ended.kind(), ended.outcome()), (Kind::SessionEnded, Outcome::NotApplied));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_frames_leads_and_hands_over_at_the_store_leader() {
    let cluster = Cluster::start(3, 91).await;
    let leader = cluster.leader().await;
    leads_and_hands_over(&cluster, [leader; 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_frames_leads_and_hands_over_through_any_nodes() {
    let cluster = Cluster::start(3, 92).await;
    let leader = cluster.leader().await;
    let others = cluster.followers(leader).await;
    leads_and_hands_over(&cluster, [others[0], leader, others[1]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_allowed_is_refused_with_its_detail() {
    let cluster = Cluster::start(3, 93).await;
    let leader = cluster.leader().await;
    for node in [leader, cluster.followers(leader).await[0]] {
        let refused = async |request| detail(&begin(&cluster, node, request).await.unwrap_err()).expect("typed");
        let none = refused(AttachRequest { how: None }).await;
        assert_eq!((none.kind(), none.field.as_str()), (Kind::InvalidArgument, "how"));
        let ttl = refused(open(Disconnect::ReleaseAfterMs(0), 1)).await;
        assert_eq!((ttl.kind(), ttl.field.as_str(), ttl.value.as_str()), (Kind::InvalidArgument, "ttl_ms", "1 ms"));
        assert_eq!(refused(attach(1 << 40)).await.kind(), Kind::SessionEnded);

        let mut calls = cluster.sessions(node);
        let gone = detail(&calls.campaign(campaign(1 << 40, 1, "a")).await.unwrap_err()).expect("typed");
        assert_eq!((gone.kind(), gone.outcome()), (Kind::SessionEnded, Outcome::NotApplied));
        let name = detail(&calls.campaign(campaign(7, 1, "")).await.unwrap_err()).expect("typed");
        assert_eq!((name.kind(), name.field.as_str()), (Kind::InvalidArgument, "candidate_id"));
        let many = KeepAlive { sessions: vec![7; 1_025] };
        let many = detail(&calls.keep_alive(many).await.unwrap_err()).expect("typed");
        assert_eq!((many.kind(), many.field.as_str()), (Kind::InvalidArgument, "sessions"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_not_attached_takes_no_calls_until_it_is() {
    let cluster = Cluster::start(1, 94).await;
    let leader = cluster.leader().await;
    let keep = Disconnect::ReleaseAfterMs(LONG_TTL_MS);
    let mut stream = begin(&cluster, leader, open(keep, LONG_TTL_MS)).await.unwrap();
    let Body::Opened(opened) = frame(&cluster, &mut stream).await else { panic!("expected a session") };
    drop(stream);
    let mut calls = cluster.sessions(leader);
    let refused = cluster
        .until("the break to be noticed", async || {
            detail(&calls.clone().keep_alive(KeepAlive { sessions: vec![opened.session] }).await.err()?)
        })
        .await;
    assert_eq!((refused.kind(), refused.field.as_str()), (Kind::InvalidArgument, "session"));
    let mut stream = begin(&cluster, leader, attach(opened.session)).await.unwrap();
    assert!(matches!(frame(&cluster, &mut stream).await, Body::Attached(_)));
    assert_eq!(
        calls.keep_alive(KeepAlive { sessions: vec![opened.session] }).await.unwrap().into_inner().sessions.len(),
        1
    );
}
