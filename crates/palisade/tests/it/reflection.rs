//! The standard gRPC services that tools of others need: health and server reflection, on the ports of nodes, JobManagers and
//! TaskExecutors.

use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::harness::{Cluster, eventually, http, palisade};
use crate::metrics::Worker;

async fn ask(channel: &Channel, question: MessageRequest) -> Option<MessageResponse> {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let asked = tokio_stream::once(request);
    let mut answers =
        ServerReflectionClient::new(channel.clone()).server_reflection_info(asked).await.ok()?.into_inner();
    let answer: ServerReflectionResponse = answers.message().await.ok()??;
    answer.message_response
}

/// The services at an address, and whether the file of each can be had.
async fn services(address: &str) -> Vec<String> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let listed = ask(&channel, MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed else { panic!("{listed:?}") };
    let names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    for name in &names {
        let file = ask(&channel, MessageRequest::FileContainingSymbol(name.clone())).await;
        assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{name}: {file:?}");
    }
    names
}

async fn health(address: &str, service: &str) -> Option<i32> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let reply = HealthClient::new(channel).check(HealthCheckRequest { service: service.to_owned() }).await;
    reply.ok().map(|reply| reply.into_inner().status)
}

const SERVING: Option<i32> = Some(1);

#[tokio::test]
async fn tools_of_others_find_the_services_and_their_health() {
    let cluster = Cluster::start();
    let workers = [Worker::start(&cluster, "jobmanager", "jm"), Worker::start(&cluster, "taskexecutor", "te")];
    let expected: [(&str, &[&str]); 3] = [
        (
            &cluster.addresses[0],
            &[
                "palisade.coord.v1.KvService",
                "palisade.coord.v1.WatchService",
                "palisade.coord.v1.ElectionService",
                "palisade.coord.v1.SessionService",
                "palisade.coord.v1.ClusterService",
            ],
        ),
        (
            &workers[0].address,
            &[
                "palisade.runtime.v1.DispatcherGateway",
                "palisade.runtime.v1.ResourceManagerGateway",
                "palisade.runtime.v1.JobMasterGateway",
            ],
        ),
        (&workers[1].address, &["palisade.runtime.v1.TaskExecutorGateway"]),
    ];
    for (address, names) in expected {
        let found = services(address).await;
        for name in names.iter().chain(&["grpc.health.v1.Health"]) {
            assert!(found.iter().any(|it| it == name), "{address}: {name} is not in {found:?}");
            if name.contains("Kv") || name.contains("runtime") {
                assert_eq!(health(address, name).await, SERVING, "{address}: {name}");
            }
        }
        assert_eq!(health(address, "").await, SERVING, "{address}: as a whole");
        assert_eq!(
            health(address, "palisade.nowhere.v1.Nothing").await,
            None,
            "{address}: a service that is not there"
        );
        assert!(palisade().args(["health", address]).output().unwrap().status.success(), "{address}");
    }
    eventually("the TaskExecutor is registered", || (http(&workers[1].metrics, "/readyz")?.0 == 200).then_some(()));
}
