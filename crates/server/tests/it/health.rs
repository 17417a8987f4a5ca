//! The standard health service: every service that clients are served with has a state there, and nothing else has.

use palisade_wire::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cluster::Cluster;

/// Of the store's interface, as it is documented.
fn services() -> Vec<String> {
    let described = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let files = described.file.iter().filter(|file| file.package() == "palisade.coord.v1");
    files.flat_map(|file| file.service.iter().map(|service| format!("{}.{}", file.package(), service.name()))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_service_has_a_state_in_the_standard_health_service() {
    let cluster = Cluster::start(1, 96).await;
    cluster.leader().await;
    let services = services();
    assert!(services.iter().any(|name| name.ends_with(".WatchService")) && services.len() > 4, "{services:?}");
    let check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        HealthClient::new(cluster.channel(1)).check(request).await.map(|reply| reply.into_inner().status())
    };
    for service in services.iter().map(String::as_str).chain([""]) {
        cluster
            .until("it serves", async || match check(service).await {
                Ok(status) => (status == ServingStatus::Serving).then_some(()),
                Err(error) => panic!("'{service}': {error}"),
            })
            .await;
    }
    assert_eq!(check("palisade.coord.v1.NoService").await.unwrap_err().code(), Code::NotFound);
}
