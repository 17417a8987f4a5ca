//! The store leader goes, all nodes restart: what was acknowledged stays.

use palisade_wire::coord::v1::{GetRequest, LeaderRequest, Member, PutRequest, StatusReply};

use crate::cluster::{Cluster, name};
use crate::session::SessionStream;

/// How a store leader goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is asked to.
    Shutdown,
    /// All its tasks and connections end at once.
    Crash,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_leader_is_shut_down_while_sessions_live_and_none_is_lost_and_no_grant_changes() {
    a_store_leader_goes(End::Shutdown, 21).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_leader_crashes_while_sessions_live_and_none_is_lost_and_no_grant_changes() {
    a_store_leader_goes(End::Crash, 24).await;
}

async fn a_store_leader_goes(end: End, seed: u64) {
    let mut cluster = Cluster::start(3, seed).await;
    let old = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, old).await;
    let mut held = Vec::new();
    for n in 1..=20u64 {
        let session = stream.open().await;
        let grant = stream.campaign(session, 1, &format!("e{n}"), "a").await.expect("nobody else campaigns");
        held.push((session, grant));
    }
    let waiting = stream.open().await;
    assert_eq!(stream.campaign(waiting, 1, "e1", "b").await, None);
    let put = PutRequest { key: b"k".to_vec(), value: b"v".to_vec(), ..PutRequest::default() };
    let written = cluster.kv(old).put(put).await.unwrap().into_inner().header.unwrap();

    match end {
        End::Shutdown => cluster.stop_node(old).await,
        End::Crash => drop(cluster.nodes.remove(&old)),
    }
    let new = cluster.leader().await;
    assert_ne!(new, old);
    // A linearizable read right after the change sees what the old one acknowledged.
    let read =
        cluster.kv(new).get(GetRequest { key: b"k".to_vec(), ..GetRequest::default() }).await.unwrap().into_inner();
    assert_eq!(read.kv.expect("an acknowledged write is never lost").value, b"v");
    assert!(read.header.unwrap().seq >= written.seq);
    assert_eq!(cluster.status(new).await.unwrap().sessions, 21);
    let mut elections = cluster.elections(new);
    for (session, grant) in &held {
        let leader = elections.leader(leader_of(&grant.election)).await.unwrap().into_inner();
        assert_eq!(leader.leader.as_ref(), Some(grant), "session {session}");
    }
    // They attach to the new store leader and hold what they held, under the same tokens.
    let mut stream = SessionStream::connect(&cluster, new).await;
    for (session, grant) in &held {
        let attached = stream.attach(*session).await;
        assert_eq!((attached.held, attached.attach_generation), (vec![grant.clone()], 2));
    }
    let attached = stream.attach(waiting).await;
    assert_eq!(attached.waiting.len(), 1);

    // The one that went comes back and catches up.
    if end == End::Crash {
        cluster.until("the dead node to let go of its folder", async || cluster.is_free(old).then_some(())).await;
    }
    cluster.start_node(old).await;
    let seq = cluster.status(new).await.unwrap().header.unwrap().seq;
    cluster
        .until("the restarted node to catch up", async || (cluster.status(old).await?.header?.seq >= seq).then_some(()))
        .await;
}

/// Here a few of the longest election timeouts must do. For half a minute the simulation does this, of its own time: in some drawn
/// plans, and in the plan by which it catches a node that stands unasked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_cut_between_the_store_leader_and_one_node_changes_neither_term_nor_leader() {
    let cluster = Cluster::start(3, 25).await;
    let leader = cluster.leader().await;
    let cut_off = cluster.followers(leader).await[0];
    let before = cluster.status(leader).await.unwrap();
    cluster.net.cut(&name(leader), &name(cut_off));
    cluster.net.cut(&name(cut_off), &name(leader));
    let mut stream = SessionStream::connect(&cluster, leader).await;
    let session = stream.open().await;
    let grant = stream.campaign(session, 1, "e", "a").await.expect("nobody else campaigns");
    let until = cluster.world.now() + 6 * cluster.config(leader).timings.election_max;
    let mut writes = 0;
    while cluster.world.now() < until {
        let put = PutRequest { key: b"k".to_vec(), value: b"v".to_vec(), ..PutRequest::default() };
        cluster.kv(leader).put(put).await.unwrap();
        writes += 1;
    }
    let meanwhile = cluster.status(leader).await.unwrap();
    assert_eq!((meanwhile.term, meanwhile.role), (before.term, before.role.clone()), "after {writes} writes");

    cluster.net.mend(&name(leader), &name(cut_off));
    cluster.net.mend(&name(cut_off), &name(leader));
    let seq = cluster.status(leader).await.unwrap().header.unwrap().seq;
    cluster
        .until("the node that was cut off to catch up", async || {
            (cluster.status(cut_off).await?.header?.seq >= seq).then_some(())
        })
        .await;
    let after = cluster.status(leader).await.unwrap();
    assert_eq!((after.term, after.role), (before.term, before.role), "it comes back without an election");
    assert_eq!(stream.attach(session).await.held, [grant]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarting_all_three_from_disk_keeps_everything() {
    let mut cluster = Cluster::start(3, 22).await;
    let before = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, before).await;
    let session = stream.open().await;
    let grant = stream.campaign(session, 1, "e", "a").await.expect("nobody else campaigns");
    for n in 0..50u32 {
        let put = PutRequest { key: n.to_be_bytes().to_vec(), value: vec![7; 1_000], ..PutRequest::default() };
        cluster.kv(before).put(put).await.unwrap();
    }
    let status = cluster.status(before).await.unwrap();
    cluster.stop_all().await;

    for id in 1..=3 {
        cluster.start_node(id).await;
    }
    let after = cluster.leader().await;
    let again = cluster.status(after).await.unwrap();
    let (was, is) = (status.header.unwrap(), again.header.unwrap());
    assert_eq!((is.cluster_id, is.generation, is.revision), (was.cluster_id, was.generation, was.revision));
    assert_eq!((again.sessions, again.elections, again.keys), (1, 1, 50));
    // Not how far each has got, which is the moment's.
    let lasting = |member: &Member| (member.node_id, member.address.clone(), member.role.clone(), member.store_id);
    let members = |status: &StatusReply| status.members.iter().map(lasting).collect::<Vec<_>>();
    assert_eq!(members(&again), members(&status));
    assert!(again.term > status.term);
    let leader = cluster.elections(after).leader(leader_of("e")).await.unwrap();
    assert_eq!(leader.into_inner().leader.as_ref(), Some(&grant));
    let attached = SessionStream::connect(&cluster, after).await.attach(session).await;
    assert_eq!(attached.held, [grant]);
}

fn leader_of(election: &str) -> LeaderRequest {
    LeaderRequest { election: election.to_owned(), serializable: false }
}
