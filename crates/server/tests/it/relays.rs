//! Session streams through a node that does not lead the store: whose fault a break is, and what it costs.

use std::time::Duration;

use palisade_client::{
    CampaignOptions, Client, ClientConfig, Leadership, LeadershipState, OnDisconnect, SessionOptions, Value,
};
use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::on_disconnect::Kind as Disconnect;
use palisade_wire::coord::v1::server_frame::Body;
use palisade_wire::metadata;
use palisade_wire::status::detail;

use crate::cluster::{Cluster, name, soon};
use crate::session::SessionStream;

/// Below the window that the death of a relay gives, with room for a busy machine.
const AT_ONCE: Duration = Duration::from_millis(2_500);

/// Somebody who waits for election "e" at the store leader.
async fn rival(cluster: &Cluster, leader: u64) -> SessionStream {
    let mut stream = SessionStream::connect(cluster, leader).await;
    let session = stream.open().await;
    assert_eq!(stream.campaign(session, 1, "e", "b").await, None, "the other one leads");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_dies_behind_a_relay_is_released_as_fast_as_one_that_is_attached_directly() {
    let cluster = Cluster::start(3, 81).await;
    let leader = cluster.leader().await;
    let relay = cluster.followers(leader).await[0];
    let mut holder = SessionStream::connect(&cluster, relay).await;
    let session = holder.open_as(Disconnect::ReleaseAfterMs(0)).await;
    holder.campaign(session, 1, "e", "a").await.expect("nobody else campaigns");
    let mut rival = rival(&cluster, leader).await;
    let before = cluster.world.now();
    drop(holder);
    assert!(matches!(rival.event().await, Body::Granted(_)));
    let waited = cluster.world.now() - before;
    assert!(waited < AT_ONCE, "as if its relay had died: {waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_relay_releases_nobody_who_attaches_again_within_three_seconds() {
    let mut cluster = Cluster::start(3, 82).await;
    let leader = cluster.leader().await;
    let relay = cluster.followers(leader).await[0];
    let mut holder = SessionStream::connect(&cluster, relay).await;
    let session = holder.open_as(Disconnect::ReleaseAfterMs(0)).await;
    let grant = holder.campaign(session, 1, "e", "a").await.expect("nobody else campaigns");
    let mut rival = rival(&cluster, leader).await;
    drop(cluster.nodes.remove(&relay));
    let ended = soon(&cluster.world, "the end of the stream", holder.ends()).await;
    assert!(detail(&ended).is_none_or(|it| it.outcome() == Outcome::Unknown), "{ended:?}");
    let mut again = SessionStream::connect(&cluster, leader).await;
    assert_eq!(again.attach(session).await.held, [grant]);

    // That was a disconnect of the relay's. This is one of the client's.
    drop(again);
    assert!(matches!(rival.event().await, Body::Granted(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relayed_stream_ends_with_its_store_leader_which_releases_nobody() {
    let mut cluster = Cluster::start(3, 83).await;
    let old = cluster.leader().await;
    let relay = cluster.followers(old).await[0];
    let mut holder = SessionStream::connect(&cluster, relay).await;
    let session = holder.open_as(Disconnect::ReleaseAfterMs(0)).await;
    let grant = holder.campaign(session, 1, "e", "a").await.expect("nobody else campaigns");
    drop(cluster.nodes.remove(&old));
    let ended = detail(&soon(&cluster.world, "the end of the stream", holder.ends()).await).expect("typed");
    assert_eq!(ended.outcome(), Outcome::Unknown);
    assert!(matches!(ended.kind(), Kind::NoStoreLeader | Kind::NotStoreLeader), "{ended:?}");
    let new = cluster.leader().await;
    // Through the other one, whichever that is now.
    let other = cluster.followers(new).await[0];
    let mut again = SessionStream::connect(&cluster, other).await;
    assert_eq!(again.attach(session).await.held, [grant]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_says_where_the_store_leader_is() {
    let cluster = Cluster::start(3, 84).await;
    let leader = cluster.leader().await;
    let relay = cluster.followers(leader).await[0];
    let accepted = cluster.sessions(relay).stream(tokio_stream::pending()).await.unwrap();
    assert_eq!(accepted.metadata().get(metadata::STORE_LEADER).unwrap(), name(leader).as_str());
    let accepted = cluster.sessions(leader).stream(tokio_stream::pending()).await.unwrap();
    assert_eq!(accepted.metadata().get(metadata::STORE_LEADER), None);
}

/// A Rust client under its own name on the network.
fn client(cluster: &Cluster, who: &str) -> Client {
    let endpoints = cluster.initial.iter().map(|(_, address)| address.clone()).collect();
    let config = ClientConfig { endpoints, request_timeout: Duration::from_secs(20) };
    Client::new(config, cluster.world_of(who)).unwrap()
}

async fn lead(client: &Client, ttl: Duration, on_disconnect: OnDisconnect) -> Leadership {
    let session = client.open_session(SessionOptions { ttl, on_disconnect, given_id: None }).await.unwrap();
    let campaign = CampaignOptions {
        election: "e".to_owned(),
        candidate_id: "a".to_owned(),
        value: Value::at("a:1"),
        priority: 0,
    };
    session.campaign(campaign).await.unwrap()
}

/// Waits until the holder believes so, and fails if it has lost.
async fn believes(cluster: &Cluster, leadership: &Leadership, what: &str, is: impl Fn(&LeadershipState) -> bool) {
    let mut state = leadership.state();
    let found = state.wait_for(|state| {
        assert!(!matches!(state, LeadershipState::Lost { .. }), "{what}: {state:?}");
        is(state)
    });
    drop(soon(&cluster.world, what, found).await.expect("somebody tells it"));
}

fn is_held_after(at: Duration) -> impl Fn(&LeadershipState) -> bool {
    move |state| matches!(state, LeadershipState::Held { deadline } if *deadline > at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_cannot_reach_the_store_leader_leads_through_another_node_until_it_can() {
    let mut cluster = Cluster::start(3, 85).await;
    let leader = cluster.leader().await;
    let others = cluster.followers(leader).await;
    // Only one way is left.
    cluster.net.cut("holder", &name(leader));
    cluster.net.cut("holder", &name(others[1]));
    let ttl = Duration::from_secs(2);
    let holder = client(&cluster, "holder");
    let leadership = lead(&holder, ttl, OnDisconnect::ReleaseAfter(Duration::ZERO)).await;
    let mut rival = rival(&cluster, leader).await;
    // Renewed through the relay, for longer than its TTL.
    believes(&cluster, &leadership, "renewals", is_held_after(cluster.world.now() + ttl)).await;
    believes(&cluster, &leadership, "more renewals", is_held_after(cluster.world.now() + ttl / 2)).await;

    // The store leader can be reached again: it moves there, and needs its relay no longer.
    cluster.net.mend("holder", &name(leader));
    cluster.until("a connection", async || (cluster.net.dialled("holder", &name(leader)) > 0).then_some(())).await;
    drop(cluster.nodes.remove(&others[0]));
    let (now, token) = (cluster.world.now(), leadership.token());
    believes(&cluster, &leadership, "renewals without the relay", is_held_after(now + ttl + ttl / 2)).await;
    assert_eq!(leadership.token(), token);
    drop((leadership, holder));
    assert!(matches!(rival.event().await, Body::Granted(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_from_the_store_leader_keeps_its_leadership_through_another_node() {
    let cluster = Cluster::start(3, 86).await;
    let leader = cluster.leader().await;
    cluster.followers(leader).await;
    let holder = client(&cluster, "holder");
    let leadership = lead(&holder, Duration::from_secs(10), OnDisconnect::KeepUntilTtl).await;
    let token = leadership.token();
    cluster.net.cut("holder", &name(leader));
    believes(&cluster, &leadership, "a doubt", |state| matches!(state, LeadershipState::Suspect { .. })).await;
    let now = cluster.world.now();
    believes(&cluster, &leadership, "renewals through another node", is_held_after(now + Duration::from_secs(9))).await;
    assert_eq!(leadership.token(), token);
    // What it asks besides goes the same way.
    leadership.resign().await.unwrap();
}
