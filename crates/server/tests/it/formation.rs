//! Who belongs to a cluster, and who must stop.

use palisade_server::{Misfit, NodeConfig, NodeFailed};
use palisade_wire::coord::v1::{GetRequest, PutRequest};

use crate::cluster::{Cluster, name};

fn put() -> PutRequest {
    PutRequest { key: b"k".to_vec(), value: b"v".to_vec(), ..PutRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_cluster_forms_only_when_all_initial_nodes_have_reported() {
    let mut cluster = Cluster::new(3, 41);
    cluster.start_node(1).await;
    cluster.start_node(2).await;
    let status = cluster
        .until("both to wait for the third", async || {
            let status = cluster.status(1).await?;
            status.problems.iter().any(|problem| problem.contains("waiting for node 3")).then_some(status)
        })
        .await;
    assert!(!status.healthy && status.members.is_empty());
    assert_eq!(status.role, "waiting");
    assert_eq!(status.header.unwrap().cluster_id, 0);

    cluster.start_node(3).await;
    let leader = cluster.leader().await;
    let status = cluster.status(leader).await.unwrap();
    assert!(status.healthy, "{:?}", status.problems);
    let mut stores: Vec<u64> = status.members.iter().map(|member| member.store_id).collect();
    stores.sort_unstable();
    stores.dedup();
    assert_eq!((status.members.len(), stores.len()), (3, 3));
    assert_eq!((status.version.as_str(), status.node_id), (palisade_server::build_info::VERSION, leader));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_under_its_old_id_is_refused_and_a_committed_write_is_kept() {
    let mut cluster = Cluster::start(3, 42).await;
    let leader = cluster.leader().await;
    cluster.kv(leader).put(put()).await.unwrap();
    let wiped = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop_node(wiped).await;
    std::fs::remove_dir_all(cluster.folder(wiped)).unwrap();

    let mut node = cluster.try_start(cluster.config(wiped), &cluster.folder(wiped)).await.unwrap();
    let failed = cluster.failure(&mut node).await;
    assert!(matches!(failed, NodeFailed::Misfit(Misfit::StoreLost { node_id, .. }) if node_id == wiped), "{failed}");
    assert!(failed.to_string().starts_with("this node's store is lost: remove it and add it under a new id"));
    node.shutdown().await;

    let leader = cluster.leader().await;
    let read =
        cluster.kv(leader).get(GetRequest { key: b"k".to_vec(), ..GetRequest::default() }).await.unwrap().into_inner();
    assert_eq!(read.kv.unwrap().value, b"v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_votes_for_nobody_while_no_peer_answers() {
    let mut cluster = Cluster::start(3, 43).await;
    let leader = cluster.leader().await;
    cluster.kv(leader).put(put()).await.unwrap();
    cluster.stop_all().await;

    // One node has the write, one is wiped, one is down: two answer, and they must not form a majority.
    let wiped = (1..=3).find(|id| *id != leader).unwrap();
    std::fs::remove_dir_all(cluster.folder(wiped)).unwrap();
    cluster.start_node(wiped).await;
    let status = cluster
        .until("the wiped node to wait", async || {
            let status = cluster.status(wiped).await?;
            status.problems.iter().any(|problem| problem.contains("waiting for node")).then_some(status)
        })
        .await;
    assert_eq!((status.role.as_str(), status.term), ("waiting", 0));
    cluster.start_node(leader).await;
    let mut node = cluster.nodes.remove(&wiped).unwrap();
    let failed = cluster.failure(&mut node).await;
    assert!(matches!(failed, NodeFailed::Misfit(Misfit::StoreLost { .. })), "{failed}");
    node.shutdown().await;
    let status = cluster
        .until("the node that has the log to say that nobody leads", async || {
            let status = cluster.status(leader).await?;
            status.problems.iter().any(|problem| problem.starts_with("no store leader")).then_some(status)
        })
        .await;
    assert!(!status.healthy && status.role != "leader", "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_under_one_id_is_told_so() {
    let cluster = Cluster::start(3, 44).await;
    cluster.leader().await;
    // The same id and list, another folder, and another place to listen.
    let config = NodeConfig { listen: "elsewhere:7070".to_owned(), ..cluster.config(2) };
    let mut node = cluster.try_start(config, &cluster.folder(9)).await.unwrap();
    let failed = cluster.failure(&mut node).await;
    let NodeFailed::Misfit(misfit) = failed else { panic!("{failed}") };
    assert!(matches!(misfit, Misfit::IdUsedTwice { .. } | Misfit::StoreLost { .. }), "{misfit}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_a_member_is_told_so() {
    let mut cluster = Cluster::start(3, 48).await;
    cluster.leader().await;
    cluster.initial.push((4, name(4)));
    let mut node = cluster.try_start(cluster.config(4), &cluster.folder(4)).await.unwrap();
    let failed = cluster.failure(&mut node).await;
    assert!(matches!(failed, NodeFailed::Misfit(Misfit::NotAMember { node_id: 4, .. })), "{failed}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_of_another_cluster_is_refused() {
    let mut other = Cluster::start(3, 45).await;
    other.leader().await;
    let seq = other.status(other.leader().await).await.unwrap().header.unwrap().seq;
    other.until("node 2 to know its cluster", async || (other.status(2).await?.header?.seq >= seq).then_some(())).await;
    other.stop_all().await;

    let mut cluster = Cluster::start(3, 46).await;
    cluster.leader().await;
    cluster.stop_node(2).await;
    let mut node = cluster.try_start(cluster.config(2), &other.folder(2)).await.unwrap();
    let failed = cluster.failure(&mut node).await;
    let NodeFailed::Misfit(misfit) = failed else { panic!("{failed}") };
    assert!(matches!(misfit, Misfit::OtherCluster { .. } | Misfit::StoreLost { .. }), "{misfit}");
    node.shutdown().await;
    cluster.leader().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_configuration_is_refused_before_anything_is_opened() {
    let cluster = Cluster::new(3, 47);
    for (config, expected) in [
        (
            NodeConfig { listen: "nonsense".to_owned(), ..cluster.config(1) },
            "--listen: 'nonsense': HOST:PORT; there is no port",
        ),
        (
            NodeConfig::new(4, name(4), cluster.initial.clone()),
            "--id: '4': one of the nodes that --initial names: 1, 2, 3",
        ),
        (NodeConfig::new(0, name(0), cluster.initial.clone()), "--id: '0': a node id is a number from 1"),
    ] {
        match cluster.try_start(config, &cluster.folder(1)).await {
            Ok(_) => panic!("it started: {expected}"),
            Err(error) => assert_eq!(error.to_string(), expected),
        }
    }
}
