//! A full disk is told, takes no writes, serves reads, and loses nothing. On the simulated engine, which can be filled.

use std::sync::Arc;
use std::time::Duration;

use palisade_server::{Node, Stores};
use palisade_storage::{SimDisk, SimEngine, SimSnapshots};
use palisade_wire::coord::v1::cluster_service_client::ClusterServiceClient;
use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::{GetRequest, HealthRequest, PutRequest};
use palisade_wire::status::detail;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_refuses_writes_and_serves_reads() {
    let mut cluster = Cluster::new(1, 51);
    let disk = SimDisk::new();
    let stores = Stores {
        engine: Arc::new(SimEngine::open(&disk).unwrap()),
        snapshots: Arc::new(SimSnapshots::open(&disk).unwrap()),
        store_id: 7,
        folder: None,
    };
    let (spinning, world) = (disk.clone(), cluster.world.clone());
    let _syncs = cluster.world.spawn("disk", async move {
        loop {
            spinning.sync();
            world.sleep(Duration::from_millis(1)).await;
        }
    });
    let node = Node::start(cluster.config(1), stores, cluster.world.clone()).await.unwrap();
    cluster.nodes.insert(1, node);
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
