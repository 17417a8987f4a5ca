//! A planted bug changes what a node answers, and only while it is on.

use palisade_planted::{Bug, choose};
use palisade_wire::coord::v1::GetRequest;

use crate::cluster::{Cluster, itself};

/// On one thread, for which the bug is chosen.
#[tokio::test]
async fn read_without_round_is_caught_at_a_follower() {
    let cluster = Cluster::start(3, 61).await;
    let leader = cluster.leader().await;
    let mut follower = cluster.kv((1..=3).find(|id| *id != leader).unwrap());
    let mut get = async || follower.get(itself(GetRequest { key: b"k".to_vec(), ..GetRequest::default() })).await;
    assert!(get().await.is_err(), "it is not the store leader");
    choose(Some(Bug::ReadWithoutRound));
    assert!(get().await.is_ok(), "with the bug it answers from what it has");
    choose(None);
}
