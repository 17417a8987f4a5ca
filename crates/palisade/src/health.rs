//! `palisade health`: the standard gRPC health check, for container health checks in images without a shell.

use palisade_world::World;
use palisade_world::grpc::channel;
use serde_json::json;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cli::{Global, HealthArgs};
use crate::exit::Failure;
use crate::output;

pub(crate) async fn run(args: HealthArgs, global: &Global, world: World) -> Result<(), Failure> {
    let address = args.address.or_else(|| global.endpoints.first().cloned()).unwrap_or_default();
    let channel = channel(&world, &address).map_err(|error| Failure::usage("address", address.clone(), error.why))?;
    let mut client = HealthClient::new(channel.clone());
    let asked = world.timeout(global.timeout, client.check(HealthCheckRequest { service: String::new() })).await;
    let (serving, mut problems) = match asked {
        Some(Ok(reply)) => (reply.into_inner().status == ServingStatus::Serving as i32, Vec::new()),
        Some(Err(status)) => (false, vec![format!("{address}: {}", status.message())]),
        None => (false, vec![format!("{address}: no answer within {:?}", global.timeout)]),
    };
    if !serving && problems.is_empty() {
        problems = details(channel, &world, global).await;
    }
    output::show(global.output, &json!({ "address": address, "serving": serving, "problems": problems }), || {
        if serving { format!("{address}: serving") } else { format!("{address}: not serving") }
    });
    if serving { Ok(()) } else { Err(Failure::failed(problems.join("; "))) }
}

/// What a store node says is wrong with it; other processes have no such service.
async fn details(channel: tonic::transport::Channel, world: &World, global: &Global) -> Vec<String> {
    use palisade_wire::coord::v1::{HealthRequest, cluster_service_client::ClusterServiceClient};
    let mut client = ClusterServiceClient::new(channel);
    match world.timeout(global.timeout, client.health(HealthRequest {})).await {
        Some(Ok(reply)) => reply.into_inner().problems,
        Some(Err(_)) | None => vec!["not serving".to_owned()],
    }
}
