//! A full disk is told, takes no writes, serves reads, and loses nothing. On the simulated engine, which can be filled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use palisade_replica::Role;
use palisade_server::{Node, Stores};
use palisade_storage::{SimDisk, SimEngine, SimSnapshots};
use palisade_wire::coord::v1::cluster_service_client::ClusterServiceClient;
use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::{GetRequest, HealthRequest, PutRequest};
use palisade_wire::status::detail;
use palisade_world::Task;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cluster::{Cluster, itself};

/// Starts a node on a simulated disk, which syncs as long as the task is held.
async fn start(cluster: &mut Cluster, id: u64) -> (SimDisk, Task<()>) {
    let disk = SimDisk::new();
    let stores = Stores {
        engine: Arc::new(SimEngine::open(&disk).unwrap()),
        snapshots: Arc::new(SimSnapshots::open(&disk).unwrap()),
        store_id: id + 6,
        folder: None,
    };
    let (spinning, world) = (disk.clone(), cluster.world.clone());
    let syncs = cluster.world.spawn("disk", async move {
        loop {
            spinning.sync();
            world.sleep(Duration::from_millis(1)).await;
        }
    });
    let config = cluster.config(id);
    let world = cluster.world_of(&config.advertise);
    let node = Node::start(config, stores, world).await.unwrap();
    cluster.nodes.insert(id, node);
    (disk, syncs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_leader_whose_disk_runs_full_hands_over_and_goes_on_when_there_is_room() {
    let mut cluster = Cluster::new(3, 52);
    let mut disks = BTreeMap::new();
    for id in 1..=3 {
        disks.insert(id, start(&mut cluster, id).await);
    }
    let full = cluster.leader().await;
    let put = |value: &str| PutRequest { key: b"k".to_vec(), value: value.into(), ..PutRequest::default() };
    let stale = || GetRequest { key: b"k".to_vec(), serializable: true };
    cluster.kv(full).put(put("before")).await.unwrap();

    disks[&full].0.run_low();
    let next = cluster
        .until("another node to lead", async || Some(cluster.leader().await).filter(|leader| *leader != full))
        .await;
    let status = cluster.status(full).await.unwrap();
    assert!(status.problems.iter().any(|problem| problem.starts_with("disk full: ")), "{:?}", status.problems);
    let refused = detail(&cluster.kv(full).put(itself(put("late"))).await.unwrap_err()).unwrap();
    assert_eq!(refused.outcome(), Outcome::NotApplied);

    // The others go on without it. It takes no entries, answers from what it has, and does not lead again.
    // A new store leader takes writes once a quorum has answered it.
    cluster.until("a write", async || cluster.kv(next).put(put("during")).await.ok().map(drop)).await;
    let read = cluster.kv(full).get(stale()).await.unwrap().into_inner();
    assert_eq!(read.kv.unwrap().value, b"before");
    cluster.nodes[&next].hand_over_to(full).await;
    assert_ne!(
        cluster.nodes[&full].status().borrow().role,
        Role::Leader,
        "a node with a full disk takes no leadership"
    );

    disks[&full].0.make_room();
    cluster
        .until("the node to catch up", async || {
            let read = cluster.kv(full).get(stale()).await.ok()?.into_inner();
            let healthy = cluster.status(full).await?.problems.is_empty();
            (healthy && read.kv?.value == b"during").then_some(())
        })
        .await;
    // Who was asked in vain to hand over may have lost its lease meanwhile.
    cluster
        .until("a write", async || {
            let leader = cluster.leader().await;
            cluster.kv(leader).put(put("after")).await.ok().map(drop)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_refuses_writes_and_serves_reads() {
    let mut cluster = Cluster::new(1, 51);
    let (disk, _syncs) = start(&mut cluster, 1).await;
    cluster.leader().await;
    let mut kv = cluster.kv(1);
    let mut clusters = ClusterServiceClient::new(cluster.channel(1));
    let mut health = HealthClient::new(cluster.channel(1));
    let put = |value: &str| PutRequest { key: b"k".to_vec(), value: value.into(), ..PutRequest::default() };
    kv.put(put("before")).await.unwrap();

    disk.fill();
    let told = cluster
        .until("health to tell of the full disk", async || {
            let reply = clusters.clone().health(HealthRequest {}).await.ok()?.into_inner();
            (!reply.serving).then_some(reply.problems)
        })
        .await;
    assert!(told.iter().any(|problem| problem.starts_with("disk full: ")), "{told:?}");
    let status = cluster.status(1).await.unwrap();
    assert_eq!((status.healthy, status.problems), (false, told));
    let refused = detail(&kv.put(put("late")).await.unwrap_err()).unwrap();
    assert_eq!((refused.kind(), refused.outcome()), (Kind::DiskFull, Outcome::NotApplied));
    let read = kv.get(GetRequest { key: b"k".to_vec(), ..GetRequest::default() }).await.unwrap().into_inner();
    assert_eq!(read.kv.unwrap().value, b"before");
    let asked = HealthCheckRequest { service: String::new() };
    cluster
        .until("the standard health service to say so, too", async || {
            let reply = health.clone().check(asked.clone()).await.ok()?.into_inner();
            (reply.status() == ServingStatus::NotServing).then_some(())
        })
        .await;

    disk.make_room();
    cluster
        .until("the node to serve again", async || {
            let reply = clusters.clone().health(HealthRequest {}).await.ok()?.into_inner();
            reply.serving.then_some(())
        })
        .await;
    kv.put(put("after")).await.unwrap();
    clusters.health(HealthRequest {}).await.unwrap();
    health.check(asked).await.unwrap();
}
