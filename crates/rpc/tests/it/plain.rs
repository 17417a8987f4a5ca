//! What a program in another language sees: metadata, statuses, reflection, health.

use palisade_rpc::RpcGateway;
use tonic::metadata::MetadataMap;

use crate::counter::*;
use crate::election::Election;
use crate::proto::*;
use crate::wire::{channel, plain};

#[tokio::test]
async fn metadata_that_cannot_be_read_is_an_invalid_argument_that_names_it() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let _counter = leader(&service, 5, &election, &probe).await;
    let to = service.local_addr().unwrap();
    for (name, value) in [("palisade-token", "five"), ("palisade-cluster", "xyz"), ("palisade-election", "%ff")] {
        let mut metadata = MetadataMap::new();
        metadata.insert(name, value.parse().unwrap());
        let status = plain(to, format!("/{}/Add", CounterGateway::INTERFACE.name), metadata).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(name), "{status:?}");
    }
    assert_eq!(probe.ran(), 0);
}

#[tokio::test]
async fn an_unknown_service_or_method_is_unimplemented() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let _counter = unfenced(&service, "counter", &probe).await;
    let to = service.local_addr().unwrap();
    for path in ["/no.Such/Method".to_owned(), format!("/{}/Nothing", CounterGateway::INTERFACE.name)] {
        let status = plain(to, path, MetadataMap::new()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unimplemented, "{status:?}");
    }
}

#[tokio::test]
async fn several_endpoints_of_one_interface_are_told_apart_by_metadata() {
    let (service, one, two) = (listening().await, Probe::new(Gate::Open), Probe::new(Gate::Open));
    let _one = unfenced(&service, "one", &one).await;
    let _two = unfenced(&service, "two", &two).await;
    let to = service.local_addr().unwrap();
    let path = format!("/{}/Add", CounterGateway::INTERFACE.name);
    let status = plain(to, path.clone(), MetadataMap::new()).await.unwrap_err();
    assert!(status.message().contains("palisade-endpoint"), "{status:?}");
    let mut metadata = MetadataMap::new();
    metadata.insert("palisade-endpoint", "two".parse().unwrap());
    plain(to, path, metadata).await.unwrap();
    assert_eq!((one.ran(), two.ran()), (0, 1));
}

#[tokio::test]
async fn an_application_error_carries_its_code_and_bytes() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let _counter = unfenced(&service, "counter", &probe).await;
    let path = format!("/{}/Refuse", CounterGateway::INTERFACE.name);
    let status = plain(service.local_addr().unwrap(), path, MetadataMap::new()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message(), status.details()),
        (tonic::Code::Aborted, "not today", &[1, 2, 3][..])
    );
    assert_eq!(status.metadata().get("palisade-app-code").unwrap(), "7");
    assert_eq!(status.metadata().get("palisade-outcome").unwrap(), "handled");
}

#[tokio::test]
async fn health_and_reflection_know_the_gateways() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

    let service = listening().await;
    let to = service.local_addr().unwrap();
    let name = CounterGateway::INTERFACE.name.to_owned();
    let health = HealthClient::new(channel(to)).check(HealthCheckRequest { service: name.clone() }).await.unwrap();
    assert_eq!(health.into_inner().status(), tonic_health::pb::health_check_response::ServingStatus::Serving);

    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(name)),
    };
    let asked = futures_util::stream::iter([ask]);
    let mut answers =
        ServerReflectionClient::new(channel(to)).server_reflection_info(asked).await.unwrap().into_inner();
    let answer: ServerReflectionResponse = answers.message().await.unwrap().unwrap();
    assert!(matches!(answer.message_response, Some(MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
}
