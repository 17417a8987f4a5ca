//! Sessions as somebody sees them who is not their client: listed, closed, opened under an id of one's own.

use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::server_frame::Body;
use palisade_wire::coord::v1::session_asked::Wish;
use palisade_wire::coord::v1::{
    CloseSessionRequest, LeaderRequest, ListElectionsRequest, ListSessionsRequest, OpenSession, client_frame,
    on_disconnect,
};
use palisade_wire::status::detail;

use crate::cluster::{Cluster, itself};
use crate::session::{LONG_TTL_MS, SessionStream};

fn close(session: u64) -> CloseSessionRequest {
    CloseSessionRequest { session, ..CloseSessionRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_a_session_from_outside_asks_a_holder_that_keeps_until_its_ttl_and_ends_any_other() {
    let cluster = Cluster::start(1, 81).await;
    let node = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, node).await;
    let (idle, holder) = (stream.open().await, stream.open().await);
    let grant = stream.campaign(holder, 1, "e", "a").await.expect("nobody leads");
    let mut sessions = cluster.sessions(node);

    assert_eq!(sessions.close(close(idle)).await.unwrap().into_inner().requested, None);
    assert!(matches!(stream.event().await, Body::Ended(it) if it.session == idle && it.why == "removed"));
    let ended = detail(&sessions.close(close(idle)).await.unwrap_err()).unwrap();
    assert_eq!((ended.kind(), ended.outcome()), (Kind::SessionEnded, Outcome::NotApplied));

    let losing = sessions.close(close(holder)).await.unwrap().into_inner().requested.expect("it is asked").losing;
    assert_eq!(losing.iter().map(|it| it.token).collect::<Vec<_>>(), [grant.token]);
    assert!(matches!(stream.event().await, Body::EndRequested(it) if it.token == grant.token));
    assert!(matches!(stream.event().await, Body::SessionAsked(it) if it.session == holder && it.wish() == Wish::Close));
    assert_eq!(stream.attach(holder).await.wish(), Wish::Close);

    let forced = CloseSessionRequest { force: true, ..close(holder) };
    assert_eq!(sessions.close(forced).await.unwrap().into_inner().requested, None);
    assert!(matches!(stream.event().await, Body::Ended(it) if it.session == holder && it.why == "removed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_sessions_says_what_each_has_and_goes_on_after_one() {
    let cluster = Cluster::start(1, 82).await;
    let node = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, node).await;
    let one = stream.open().await;
    let two = stream.open_as(on_disconnect::Kind::ReleaseAfterMs(300)).await;
    stream.campaign(one, 1, "e", "a").await.expect("nobody leads");
    assert_eq!(stream.campaign(two, 1, "e", "b").await, None);

    let mut sessions = cluster.sessions(node);
    let all = sessions.list(ListSessionsRequest::default()).await.unwrap().into_inner();
    let seen: Vec<_> = all.sessions.iter().map(|it| (it.session, it.leaderships, it.waiting, it.ttl_ms)).collect();
    assert_eq!((seen.as_slice(), all.more), ([(one, 1, 0, LONG_TTL_MS), (two, 0, 1, LONG_TTL_MS)].as_slice(), false));
    let kind = all.sessions[1].on_disconnect.as_ref().and_then(|it| it.kind);
    assert_eq!(kind, Some(on_disconnect::Kind::ReleaseAfterMs(300)));
    let rest = ListSessionsRequest { after: one, serializable: true };
    let rest = sessions.list(rest).await.unwrap().into_inner().sessions;
    assert_eq!(rest.iter().map(|it| it.session).collect::<Vec<_>>(), [two]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_a_caller_gives_names_one_live_session_and_may_come_again() {
    let cluster = Cluster::start(1, 83).await;
    let node = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, node).await;
    let open = || client_frame::Body::Open(OpenSession { ttl_ms: LONG_TTL_MS, on_disconnect: None, session_id: 41 });
    let first = match stream.call(open()).await {
        Body::Opened(opened) => opened,
        other => panic!("opening a session: {other:?}"),
    };
    assert_eq!(first.session, 1 << 63 | 41);
    match stream.call(open()).await {
        Body::Refused(refused) => {
            let error = refused.error.unwrap();
            assert_eq!((error.kind(), error.outcome()), (Kind::SessionExists, Outcome::NotApplied));
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    // Its serials start at the `seq` of its opening, so that nothing meant for an earlier session of the id can touch it.
    let opened_at = first.header.unwrap().seq;
    assert_eq!(stream.campaign_refused(first.session, opened_at - 1, "e", "a").await.kind(), Kind::Forgotten);
    assert!(stream.campaign(first.session, opened_at, "e", "a").await.is_some());

    let forced = CloseSessionRequest { force: true, ..close(first.session) };
    cluster.sessions(node).close(forced).await.unwrap();
    match stream.call(open()).await {
        Body::Opened(again) => {
            assert!(again.session == first.session && again.attach_generation > first.attach_generation);
        }
        other => panic!("opening a session: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serializable_read_is_served_by_any_node_and_without_a_quorum() {
    let mut cluster = Cluster::start(3, 84).await;
    let node = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, node).await;
    let session = stream.open().await;
    let grant = stream.campaign(session, 1, "e", "a").await.expect("nobody leads");
    let follower = (1..=3).find(|id| *id != node).unwrap();
    let leader = |serializable| LeaderRequest { election: "e".to_owned(), serializable };
    let mut elections = cluster.elections(follower);
    cluster
        .until("a follower that has applied the grant", async || {
            // It refuses until it has heard of the cluster at all.
            let reply = cluster.elections(follower).leader(leader(true)).await.ok()?.into_inner();
            (reply.leader.as_ref() == Some(&grant)).then_some(())
        })
        .await;
    let refused = detail(&elections.leader(itself(leader(false))).await.unwrap_err()).unwrap();
    assert_eq!(refused.kind(), Kind::NotStoreLeader);
    let listed = ListElectionsRequest { serializable: true, after: String::new() };
    assert_eq!(elections.list(listed).await.unwrap().into_inner().elections.len(), 1);
    let listed = ListSessionsRequest { serializable: true, after: 0 };
    assert_eq!(cluster.sessions(follower).list(listed).await.unwrap().into_inner().sessions.len(), 1);

    // Alone it can confirm nothing, and says what it has.
    for id in (1..=3).filter(|id| *id != follower) {
        cluster.stop_node(id).await;
    }
    let reply = elections.leader(leader(true)).await.unwrap().into_inner();
    assert_eq!(reply.leader, Some(grant));
}
