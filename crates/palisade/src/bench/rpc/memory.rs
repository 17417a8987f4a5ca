//! What an idle gateway and a queued call cost in memory, by how much the resident memory of a process grows with many of them.

use palisade_rpc::{RpcService, RpcServiceConfig};
use palisade_world::World;
use serde_json::{Value, json};

use super::loads::Ways;
use super::proto::{EchoGateway, Load};
use super::server::Echo;
use super::stamp;
use crate::exit::Failure;
use crate::processes::Process;

/// Enough to make what is measured large beside what the allocator does.
const GATEWAYS: u64 = 5_000;
const CALLS: usize = 100_000;

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    resident.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or_default()
}

/// Bytes for each of `count`.
fn each(before_kb: u64, after_kb: u64, count: u64) -> u64 {
    after_kb.saturating_sub(before_kb) * 1024 / count
}

pub(super) async fn measure(
    service: &RpcService,
    ways: &Ways,
    other: &Process,
    world: &World,
) -> Result<Value, Failure> {
    let failed = |error: String| Failure::failed(error);
    let (here, there) = (resident_kb(), other.memory_kb().unwrap_or_default());
    let mut gateways: Vec<EchoGateway> = Vec::new();
    for _ in 0..GATEWAYS {
        gateways.push(service.connect(&ways.address, stamp()).await.map_err(|error| failed(error.to_string()))?);
    }
    let idle = each(here, resident_kb(), GATEWAYS);
    // One call through each, so that the other side knows it too.
    for gateway in &gateways {
        gateway.tell(Load::default()).map_err(|error| failed(error.to_string()))?;
        gateway.ready().await.map_err(|error| failed(error.to_string()))?;
    }
    ways.gateway.handled(Load::default()).await.map_err(|error| failed(error.to_string()))?;
    let used = each(here, resident_kb(), GATEWAYS);
    let known = each(there, other.memory_kb().unwrap_or_default(), GATEWAYS);
    drop(gateways);
    let queued = queued_call(world).await.map_err(failed)?;
    Ok(json!({
        "idle_gateway_bytes": idle,
        "used_gateway_bytes": used,
        "used_gateway_bytes_at_the_receiver": known,
        "queued_call_of_32_bytes": queued,
        "gateways": GATEWAYS,
        "queued_calls": CALLS,
    }))
}

/// An endpoint that is held by one step, and calls that wait behind it, encoded as they come off a socket.
async fn queued_call(world: &World) -> Result<u64, String> {
    let config = RpcServiceConfig::local().serialize_always();
    let service = RpcService::start(config, world.clone()).await.map_err(|error| error.to_string())?;
    let echo = service.endpoint("held", Echo { tells: 0 }).serves(EchoGateway::serve()).mailbox(CALLS * 2);
    let echo = echo.create().map_err(|error| error.to_string())?;
    echo.start().await.map_err(|error| error.to_string())?;
    let (entered, held) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let hold = move |_: &mut Echo, _: &mut palisade_rpc::Context<Echo>| {
        let _ = entered.send(()); // whoever waits is above
        let _ = released.recv(); // its end is the release
    };
    echo.run_async(hold).map_err(|error| error.to_string())?;
    held.await.map_err(|error| error.to_string())?;
    let gateway: EchoGateway = echo.self_gateway().map_err(|error| error.to_string())?;
    let before = resident_kb();
    for _ in 0..CALLS {
        gateway.tell(Load { body: vec![7; 32].into() }).map_err(|error| error.to_string())?;
    }
    let bytes = each(before, resident_kb(), CALLS as u64);
    drop(release);
    service.close().await.map_err(|error| error.to_string())?;
    Ok(bytes)
}
