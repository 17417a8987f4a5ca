//! A Rust client that cannot reach the store leader: what it observes, watches and sends goes through a node that can, and comes
//! back when the store leader answers again.

use std::time::Duration;

use palisade_client::{
    CampaignOptions, Client, ClientConfig, Leadership, Observed, ObservedKind, Observer, PutOptions, SessionOptions,
    Value, WatchOptions, WatchedKind, Watcher,
};

use crate::cluster::{Cluster, name, soon};

/// A client under its own name on the network.
fn client(cluster: &Cluster, who: &str) -> Client {
    let endpoints = cluster.initial.iter().map(|(_, address)| address.clone()).collect();
    let config = ClientConfig { endpoints, request_timeout: Duration::from_secs(20) };
    Client::new(config, cluster.world_of(who)).unwrap()
}

/// A cluster, its store leader, and a client that can reach only one node: another one.
async fn cut_off(seed: u64) -> (Cluster, u64, u64, Client) {
    let cluster = Cluster::start(3, seed).await;
    let leader = cluster.leader().await;
    let others = cluster.followers(leader).await;
    cluster.net.cut("away", &name(leader));
    cluster.net.cut("away", &name(others[1]));
    let away = client(&cluster, "away");
    (cluster, leader, others[0], away)
}

async fn lead(client: &Client) -> Leadership {
    let session = client.open_session(SessionOptions::default()).await.unwrap();
    let campaign = CampaignOptions {
        election: "e".to_owned(),
        candidate_id: "a".to_owned(),
        value: Value::at("a:1"),
        priority: 0,
    };
    session.campaign(campaign).await.unwrap()
}

async fn news(cluster: &Cluster, observer: &mut Observer) -> Observed {
    soon(&cluster.world, "news", observer.next()).await.unwrap()
}

async fn told(cluster: &Cluster, watcher: &mut Watcher) -> WatchedKind {
    soon(&cluster.world, "changes", watcher.next()).await.unwrap().kind
}

async fn put(client: &Client, value: &str) -> u64 {
    client.put(PutOptions::new("k", value)).await.unwrap().header.revision
}

fn changed(kind: &WatchedKind) -> Option<u64> {
    match kind {
        WatchedKind::Changed { revision, .. } => Some(*revision),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_cannot_reach_the_store_leader_hears_through_another_node_until_it_can() {
    let (cluster, leader, _, away) = cut_off(141).await;
    let mut observer = away.observe("e");
    assert_eq!(news(&cluster, &mut observer).await.kind, ObservedKind::State { leader: None });
    let near = client(&cluster, "near");
    let leadership = lead(&near).await;
    let elected = news(&cluster, &mut observer).await;
    assert_eq!(elected.kind.leader().map(|it| it.token), Some(leadership.token()));
    assert_eq!(cluster.net.dialled("away", &name(leader)), 0);

    // One connection to ask whether the store leader answers, and one for the observer, which is moved there while it waits.
    cluster.net.mend("away", &name(leader));
    let moved = cluster
        .until("a place at the store leader", async || (cluster.net.dialled("away", &name(leader)) > 1).then_some(()));
    tokio::select! {
        () = moved => {}
        news = observer.next() => panic!("nothing has changed: {news:?}"),
    }
    leadership.resign().await.unwrap();
    assert!(matches!(news(&cluster, &mut observer).await.kind, ObservedKind::Vacant { .. }), "nothing is told twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_cannot_reach_the_store_leader_is_told_through_another_node_until_it_can() {
    let (mut cluster, leader, relay, away) = cut_off(142).await;
    let mut watcher = away.watch(WatchOptions::new("k"));
    assert!(matches!(told(&cluster, &mut watcher).await, WatchedKind::Started { .. }));
    let near = client(&cluster, "near");
    let first = put(&near, "1").await;
    assert_eq!(changed(&told(&cluster, &mut watcher).await), Some(first));

    // It moves by itself, and misses nothing.
    cluster.net.mend("away", &name(leader));
    let resumed = told(&cluster, &mut watcher).await;
    assert_eq!(resumed, WatchedKind::Resumed { from: first + 1 });
    assert!(cluster.net.dialled("away", &name(leader)) > 0);
    drop(cluster.nodes.remove(&relay));
    let second = put(&near, "2").await;
    assert_eq!(changed(&told(&cluster, &mut watcher).await), Some(second), "it no longer needs the other node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_stream_that_cannot_reach_the_store_leader_goes_through_another_node_until_it_can() {
    let (mut cluster, leader, relay, away) = cut_off(143).await;
    let pipeline = away.pipeline();
    let write = async |value: &str| {
        // Without a request id: one that broke would be unknown.
        soon(&cluster.world, "an answer", pipeline.put(PutOptions::new("k", value))).await.unwrap()
    };
    assert_eq!(write("1").await.version, Some(1));
    assert_eq!(cluster.net.dialled("away", &name(leader)), 0);
    cluster.net.mend("away", &name(leader));
    let mut writes = 1;
    while cluster.net.dialled("away", &name(leader)) == 0 {
        writes += 1;
        assert_eq!(write("again").await.version, Some(writes), "moving breaks nothing");
    }
    // What is left of the move.
    for _ in 0..20 {
        writes += 1;
        assert_eq!(write("more").await.version, Some(writes), "moving breaks nothing");
    }
    drop(cluster.nodes.remove(&relay));
    let after = soon(&cluster.world, "an answer", pipeline.get(b"k".to_vec())).await.unwrap();
    assert_eq!(after.kv.map(|kv| kv.version), Some(writes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_cut_from_the_store_leader_goes_on_listening_through_another_node() {
    let cluster = Cluster::start(3, 144).await;
    let leader = cluster.leader().await;
    cluster.followers(leader).await;
    let (away, near) = (client(&cluster, "away"), client(&cluster, "near"));
    let (mut observer, mut watcher) = (away.observe("e"), away.watch(WatchOptions::new("k")));
    assert_eq!(news(&cluster, &mut observer).await.kind, ObservedKind::State { leader: None });
    assert!(matches!(told(&cluster, &mut watcher).await, WatchedKind::Started { .. }));
    cluster.net.cut("away", &name(leader));
    let leadership = lead(&near).await;
    let elected = news(&cluster, &mut observer).await;
    assert_eq!(elected.kind.leader().map(|it| it.token), Some(leadership.token()));
    let revision = put(&near, "1").await;
    assert!(matches!(told(&cluster, &mut watcher).await, WatchedKind::Resumed { .. }));
    assert_eq!(changed(&told(&cluster, &mut watcher).await), Some(revision));
}
