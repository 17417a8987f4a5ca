//! Leaderships that somebody other than the holder wants to end.

use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::server_frame::Body;
use palisade_wire::coord::v1::session_asked::Wish;
use palisade_wire::coord::v1::{
    EndRequested, Grant, HistoryRequest, KeepAlive, LeaderRequest, Reign, ResignRequest, TransferRequest, Withdraw,
    WithdrawRequest, client_frame, on_disconnect,
};
use palisade_wire::status::detail;

use crate::cluster::{Cluster, soon};
use crate::session::SessionStream;

fn resign(grant: &Grant) -> ResignRequest {
    ResignRequest { election: grant.election.clone(), token: grant.token, ..ResignRequest::default() }
}

fn transfer(election: &str, to: &str) -> TransferRequest {
    TransferRequest { election: election.to_owned(), to: to.to_owned(), ..TransferRequest::default() }
}

/// Who leads, as this node has it.
async fn leader(cluster: &Cluster, node: u64, election: &str) -> Option<Grant> {
    let request = LeaderRequest { election: election.to_owned(), serializable: false };
    cluster.elections(node).leader(request).await.unwrap().into_inner().leader
}

async fn history(cluster: &Cluster, node: u64, election: &str) -> Vec<Reign> {
    let request = HistoryRequest { election: election.to_owned(), serializable: false };
    cluster.elections(node).history(request).await.unwrap().into_inner().reigns
}

async fn end_requested(stream: &mut SessionStream) -> EndRequested {
    match stream.event().await {
        Body::EndRequested(asked) => EndRequested { header: None, ..asked },
        other => panic!("expected a request, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_was_requested_outlives_the_store_leader_and_goes_to_whom_it_names() {
    let mut cluster = Cluster::start(3, 71).await;
    let before = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, before).await;
    let (holder, others) = (stream.open().await, stream.open().await);
    let grant = stream.campaign(holder, 1, "e", "a").await.expect("nobody leads");
    assert_eq!(stream.campaign(others, 1, "e", "b").await, None);
    assert_eq!(stream.campaign(others, 2, "e", "c").await, None);

    let reply = cluster.elections(before).transfer(transfer("e", "c")).await.unwrap().into_inner();
    assert_eq!(reply.requested.expect("the holder keeps until its TTL").losing, [], "only this leadership is to end");
    let expected = EndRequested {
        header: None,
        session: holder,
        serial: 1,
        election: "e".to_owned(),
        token: grant.token,
        to: "c".to_owned(),
    };
    assert_eq!(end_requested(&mut stream).await, expected);
    assert_eq!(leader(&cluster, before, "e").await.as_ref(), Some(&grant), "it leads until it is ready");

    cluster.stop_node(before).await;
    let after = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, after).await;
    let attached = stream.attach(holder).await;
    assert_eq!((attached.requested.as_slice(), attached.held.len()), ([expected].as_slice(), 1));
    assert_eq!(attached.wish(), Wish::None);

    cluster.elections(after).resign(ResignRequest { session: holder, ..resign(&grant) }).await.unwrap();
    let next = leader(&cluster, after, "e").await.expect("somebody leads");
    assert_eq!(next.candidate_id, "c", "not b, who came first");
    assert_eq!(
        history(&cluster, after, "e").await.last().map(|reign| reign.why.clone()).as_deref(),
        Some("transferred")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_dropped_when_its_token_ends_and_whom_it_names_may_be_gone() {
    let cluster = Cluster::start(1, 72).await;
    let node = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, node).await;
    let (holder, others) = (stream.open().await, stream.open().await);
    let first = stream.campaign(holder, 1, "e", "a").await.expect("nobody leads");
    assert_eq!(stream.campaign(others, 1, "e", "b").await, None);
    assert_eq!(stream.campaign(others, 2, "e", "c").await, None);
    cluster.elections(node).transfer(transfer("e", "c")).await.unwrap();
    end_requested(&mut stream).await;

    let withdraw = client_frame::Body::Withdraw(Withdraw { session: others, serial: 2 });
    assert!(matches!(stream.call(withdraw).await, Body::Withdrew(it) if !it.already));
    let of_the_holder = ResignRequest { session: holder, ..resign(&first) };
    cluster.elections(node).resign(of_the_holder).await.unwrap();
    let second = leader(&cluster, node, "e").await.expect("somebody leads");
    assert_eq!(second.candidate_id, "b", "c does not wait any more: the normal order");
    assert_eq!(stream.attach(others).await.requested, [], "the request was for the token before");
    assert_eq!(history(&cluster, node, "e").await.last().map(|it| it.why.clone()).as_deref(), Some("resigned"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_session_lists_all_that_it_will_lose_and_is_still_wanted_after_a_failover() {
    let mut cluster = Cluster::start(3, 73).await;
    let before = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, before).await;
    let holder = stream.open().await;
    let grant = stream.campaign(holder, 1, "e", "a").await.expect("nobody leads");
    stream.campaign(holder, 2, "f", "a").await.expect("nobody leads");

    let asked = ResignRequest { end_session: true, ..resign(&grant) };
    let reply = cluster.elections(before).resign(asked).await.unwrap().into_inner();
    let losing = reply.requested.expect("it is asked").losing;
    let names: Vec<_> = losing.iter().map(|it| (it.election.as_str(), it.value.is_none())).collect();
    assert_eq!((names.as_slice(), reply.already), ([("e", true), ("f", true)].as_slice(), false));
    assert_eq!(end_requested(&mut stream).await.to, "", "nobody is named");
    match stream.event().await {
        Body::SessionAsked(asked) => assert_eq!((asked.session, asked.wish()), (holder, Wish::StopRenewing)),
        other => panic!("expected a request, got {other:?}"),
    }
    let keep_alive = || client_frame::Body::KeepAlive(KeepAlive { sessions: vec![holder] });
    let not_renewed =
        |body| matches!(body, Body::KeptAlive(kept) if kept.not_renewed == [holder] && kept.sessions.is_empty());
    assert!(not_renewed(stream.call(keep_alive()).await));

    cluster.stop_node(before).await;
    let after = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, after).await;
    let attached = stream.attach(holder).await;
    assert_eq!((attached.wish(), attached.requested.len()), (Wish::StopRenewing, 1));
    assert!(not_renewed(stream.call(keep_alive()).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn force_ends_a_leadership_at_once_and_so_does_any_request_to_a_holder_that_fences() {
    let cluster = Cluster::start(1, 74).await;
    let node = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, node).await;
    let keeps = stream.open().await;
    let grant = stream.campaign(keeps, 1, "e", "a").await.expect("nobody leads");
    let mut elections = cluster.elections(node);
    let forced = elections.resign(ResignRequest { force: true, ..resign(&grant) }).await.unwrap().into_inner();
    assert_eq!((forced.already, forced.requested), (false, None));
    assert_eq!(leader(&cluster, node, "e").await, None);
    assert_eq!(history(&cluster, node, "e").await[0].why, "removed");
    let again = elections.resign(ResignRequest { force: true, ..resign(&grant) }).await.unwrap().into_inner();
    assert!(again.already);

    let fences = stream.open_as(on_disconnect::Kind::ReleaseAfterMs(0)).await;
    stream.campaign(fences, 1, "e", "b").await.expect("nobody leads");
    assert_eq!(stream.campaign(keeps, 2, "e", "c").await, None);
    let reply = elections.transfer(transfer("e", "c")).await.unwrap().into_inner();
    assert_eq!(reply.requested, None);
    assert_eq!(leader(&cluster, node, "e").await.map(|it| it.candidate_id).as_deref(), Some("c"));

    // Nobody waits under this name; and whoever leads does not wait.
    for to in ["nobody", "c"] {
        let refused = detail(&elections.transfer(transfer("e", to)).await.unwrap_err()).unwrap();
        assert_eq!((refused.kind(), refused.outcome()), (Kind::CandidateNotFound, Outcome::NotApplied), "{to}");
    }
    let stale = TransferRequest { token: grant.token, ..transfer("e", "c") };
    assert_eq!(detail(&elections.transfer(stale).await.unwrap_err()).unwrap().kind(), Kind::StaleToken);
    let never = detail(&elections.transfer(transfer("never", "c")).await.unwrap_err()).unwrap();
    assert_eq!(never.kind(), Kind::ElectionNotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_create_resurrects_no_withdrawn_candidate() {
    let cluster = Cluster::start(1, 75).await;
    let node = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, node).await;
    let (one, two) = (stream.open().await, stream.open().await);
    let withdraw = |session, serial| client_frame::Body::Withdraw(Withdraw { session, serial });

    // Withdrawn before it came.
    assert!(matches!(stream.call(withdraw(one, 1)).await, Body::Withdrew(it) if it.already));
    assert_eq!(stream.campaign_refused(one, 1, "e", "a").await.kind(), Kind::SerialReused);
    // While it waits, and while it leads.
    let grant = stream.campaign(one, 2, "e", "a").await.expect("nobody leads");
    assert_eq!(stream.campaign(two, 1, "e", "b").await, None);
    assert!(matches!(stream.call(withdraw(two, 1)).await, Body::Withdrew(it) if !it.already && it.serial == 1));
    assert!(matches!(stream.event().await, Body::Withdrawn(it) if it.session == two && it.why == "resigned"));
    assert_eq!(stream.campaign_refused(two, 1, "e", "b").await.kind(), Kind::SerialReused);
    assert_eq!(stream.campaign(two, 2, "e", "b").await, None);
    assert!(matches!(stream.call(withdraw(one, 2)).await, Body::Withdrew(it) if !it.already));
    // Two sessions are told, in no order between them.
    let events = [stream.event().await, stream.event().await];
    let revoked = |it: &Body| matches!(it, Body::Revoked(it) if it.token == grant.token && it.why == "resigned");
    assert!(events.iter().any(revoked), "{events:?}");
    assert!(events.iter().any(|it| matches!(it, Body::Granted(_))), "{events:?}");
    assert_eq!(stream.campaign_refused(one, 2, "e", "a").await.kind(), Kind::SerialReused);
    assert_eq!(leader(&cluster, node, "e").await.map(|it| it.candidate_id).as_deref(), Some("b"));
    // Idempotent.
    assert!(matches!(stream.call(withdraw(one, 2)).await, Body::Withdrew(it) if it.already));

    // Only through the stream that the session is attached to.
    let mut other = SessionStream::connect(&cluster, node).await;
    match other.call(withdraw(two, 2)).await {
        Body::Refused(refused) => assert_eq!(refused.error.unwrap().field, "session"),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_withdraws_who_waits_at_once_and_asks_who_leads() {
    let cluster = Cluster::start(1, 76).await;
    let node = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, node).await;
    let (one, two) = (stream.open().await, stream.open().await);
    let grant = stream.campaign(one, 1, "e", "a").await.expect("nobody leads");
    assert_eq!(stream.campaign(two, 1, "e", "b").await, None);
    let withdraw = |id: &str| WithdrawRequest {
        election: "e".to_owned(),
        candidate_id: id.to_owned(),
        ..WithdrawRequest::default()
    };
    let mut elections = cluster.elections(node);
    assert_eq!(elections.withdraw(withdraw("b")).await.unwrap().into_inner().requested, None);
    let gone = soon(&cluster.world, "a candidate is told", stream.event()).await;
    assert!(matches!(gone, Body::Withdrawn(it) if it.session == two && it.serial == 1 && it.why == "removed"));

    assert!(elections.withdraw(withdraw("a")).await.unwrap().into_inner().requested.is_some());
    assert_eq!(end_requested(&mut stream).await.token, grant.token);
    let nobody = detail(&elections.withdraw(withdraw("b")).await.unwrap_err()).unwrap();
    assert_eq!((nobody.kind(), nobody.field.as_str()), (Kind::CandidateNotFound, "candidate_id"));
}
