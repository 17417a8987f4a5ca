//! The table: each claim at a worker and at a leader, and where a worker's higher tokens are confirmed.

use std::sync::Arc;

use palisade_fence::{ClusterId, PresentLeader, Token};
use palisade_fence_tonic::{Election, FenceLayer, Refused, Stamper, Why};
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tower::Layer;

use crate::service::*;
use crate::sources::{CLUSTER, Disk, Granted};

fn token(n: u32) -> Option<Token> {
    Some(Token::new(0, n))
}

/// A fence at the fifth token that asks an election.
async fn at_five(granted: &Arc<Granted>, probe: &Probe) -> FenceLayer {
    let fence = FenceLayer::worker([Election::named(ELECTION).confirmed_by(granted.clone())]);
    client(&fence, probe, 5).check(now()).await.unwrap();
    fence
}

async fn refused(fence: &FenceLayer, probe: &Probe, n: u32) -> Refused {
    let ran = probe.log().len();
    let status = client(fence, probe, n).check(now()).await.unwrap_err();
    assert_eq!((status.code(), probe.log().len()), (Code::FailedPrecondition, ran), "{status:?}");
    Refused::of(&status).unwrap()
}

#[tokio::test]
async fn a_worker_obeys_the_table() {
    let (granted, probe) = (Granted::at(5), Probe::new());
    let fence = at_five(&granted, &probe).await;
    granted.announce();
    let refusal =
        |why| Refused { why, current: token(5), leader: Some("leader-5:1".to_owned()), surely_not_handled: true };
    assert_eq!(refused(&fence, &probe, 4).await, refusal(Why::Stale));
    assert_eq!(refused(&fence, &probe, 6).await, refusal(Why::Ahead), "forged");
    assert_eq!(fence.highest(ELECTION), token(5), "the guard stands where it stood");
    granted.grant(6);
    client(&fence, &probe, 6).check(now()).await.unwrap();
    assert_eq!(fence.highest(ELECTION), token(6));
    assert_eq!(refused(&fence, &probe, 5).await.current, token(6));
}

#[tokio::test]
async fn a_call_without_a_token_or_an_election_is_invalid_and_metadata_that_cannot_be_read_as_well() {
    let (probe, fence) = (Probe::new(), FenceLayer::worker([Election::named(ELECTION)]));
    let mut bare = HealthClient::new(fence.layer(HealthServer::new(probe.clone())));
    for metadata in [&[][..], &[("palisade-token", "5")], &[("palisade-token", "five")], &[("palisade-cluster", "x")]] {
        let mut request = tonic::Request::new(now());
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let status = bare.check(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{metadata:?}: {status:?}");
        assert!(status.message().contains("palisade-"), "it names what is missing: {status:?}");
    }
    assert!(probe.log().is_empty());
}

#[tokio::test]
async fn other_elections_and_clusters_are_not_compared() {
    let (granted, probe) = (Granted::at(5), Probe::new());
    let other = Election::named(ELECTION).of(ClusterId(2));
    let fence = FenceLayer::worker([Election::named(ELECTION).confirmed_by(granted).of(CLUSTER), other]);
    let at = |cluster, n| Stamper::new(ELECTION, Tokens::at(n)).of(ClusterId(cluster));
    with(&fence, &probe, at(2, 9)).check(now()).await.unwrap();
    with(&fence, &probe, at(CLUSTER.0, 5)).check(now()).await.unwrap();
    let refused = |status: &tonic::Status| Refused::of(status).map(|refused| refused.why);
    let status = with(&fence, &probe, at(3, 9)).check(now()).await.unwrap_err();
    assert_eq!(refused(&status), Some(Why::NotLeader));
    let status = with(&fence, &probe, Stamper::new("another", Tokens::at(9))).check(now()).await.unwrap_err();
    assert_eq!(refused(&status), Some(Why::NotLeader));
    let status = client(&fence, &probe, 9).check(now()).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().contains("name one"), "{status:?}");
}

#[tokio::test]
async fn without_an_election_a_higher_token_is_believed_and_with_a_hook_it_decides() {
    let probe = Probe::new();
    let open = FenceLayer::worker([Election::named(ELECTION)]);
    client(&open, &probe, 9).check(now()).await.unwrap();
    assert_eq!(refused(&open, &probe, 8).await.why, Why::Stale);

    let even = Election::named(ELECTION).confirm(|token| async move { token.counter() % 2 == 0 });
    let fence = FenceLayer::worker([even]);
    client(&fence, &probe, 2).check(now()).await.unwrap();
    assert_eq!(refused(&fence, &probe, 3).await.why, Why::Ahead);
    client(&fence, &probe, 4).check(now()).await.unwrap();
}

#[tokio::test]
async fn an_election_that_cannot_be_asked_confirms_nothing() {
    let (granted, probe) = (Granted::at(5), Probe::new());
    let fence = at_five(&granted, &probe).await;
    granted.cut_off();
    assert_eq!(refused(&fence, &probe, 6).await.why, Why::Ahead);
    client(&fence, &probe, 5).check(now()).await.unwrap();
}

#[tokio::test]
async fn fencing_by_knowledge_a_stale_call_is_refused_before_the_successor_has_called() {
    let (granted, probe) = (Granted::at(5), Probe::new());
    let fence = at_five(&granted, &probe).await;
    granted.grant(6);
    granted.announce();
    assert_eq!(refused(&fence, &probe, 5).await.why, Why::Stale);
}

#[tokio::test]
async fn a_worker_that_starts_again_remembers_and_one_without_memory_asks_first() {
    let (disk, probe) = (Arc::new(Disk::default()), Probe::new());
    let kept = || Election::named(ELECTION).kept_in(CLUSTER, disk.clone()).unwrap();
    let fence = FenceLayer::worker([kept()]);
    client(&fence, &probe, 6).check(now()).await.unwrap();
    assert_eq!(disk.kept(), token(6), "written before it ran");
    *disk.full.lock().unwrap() = true;
    let status = client(&fence, &probe, 7).check(now()).await.unwrap_err();
    assert!(status.message().contains("no space left"), "{status:?}");
    assert_eq!(fence.highest(ELECTION), token(6));
    assert_eq!(refused(&FenceLayer::worker([kept()]), &probe, 5).await.current, token(6));

    // The stream is one leadership behind, and is not believed.
    let granted = Granted::at(5);
    granted.announce();
    granted.grant(6);
    let fence = FenceLayer::worker([Election::named(ELECTION).confirmed_by(granted)]);
    assert_eq!(refused(&fence, &probe, 5).await.current, token(6));
}

#[tokio::test]
async fn a_leader_obeys_the_table_and_its_callers_stamp_the_addressees_token() {
    let (granted, probe, tokens) = (Granted::at(5), Probe::new(), Tokens::at(5));
    let fence = FenceLayer::leader_of(CLUSTER, granted.clone(), tokens.clone());
    granted.announce();
    let to_leader = || Stamper::new(ELECTION, Arc::new(PresentLeader(granted.clone()))).of(CLUSTER);
    with(&fence, &probe, to_leader()).check(now()).await.unwrap();
    assert_eq!(refused(&fence, &probe, 4).await.why, Why::Stale);
    assert_eq!(refused(&fence, &probe, 6).await.why, Why::Ahead);
    tokens.set(None);
    granted.grant(6);
    granted.announce();
    let refused = refused(&fence, &probe, 5).await;
    assert_eq!((refused.why, refused.leader.as_deref()), (Why::NotLeader, Some("leader-6:1")));
}
