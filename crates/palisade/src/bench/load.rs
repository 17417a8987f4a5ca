//! Closed-loop load: each caller has one request in flight; all share 12 connections.

use std::sync::Arc;
use std::time::Duration;

use palisade_client::{Client, PutOptions};
use palisade_world::World;
use serde_json::json;

use super::Latencies;
use crate::cli::{Global, LoadArgs};
use crate::exit::Failure;
use crate::output;

/// As for every target that we compare with.
const CONNECTIONS: usize = 12;
const VALUE: usize = 256;
/// Keys that the callers write and read.
const KEYS: u32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Put,
    Get,
}

pub(crate) async fn run(kind: Kind, args: LoadArgs, global: &Global, world: World) -> Result<(), Failure> {
    let connections = CONNECTIONS.min(args.clients.max(1) as usize);
    let clients = (0..connections).map(|_| crate::elect::connect(global, &world)).collect::<Result<Vec<_>, _>>()?;
    let value = vec![b'x'; VALUE];
    clients[0].put(put_of(0, &value)).await?;
    let bar = super::progress(args.span.as_secs().max(1), "measuring");
    let start = world.now();
    let end = start + args.span;
    let value = Arc::new(value);
    let callers: Vec<_> = (0..args.clients)
        .map(|caller| {
            let client = clients[caller as usize % connections].clone();
            world.spawn("bench-caller", closed_loop(kind, client, caller, Arc::clone(&value), end, world.clone()))
        })
        .collect();
    while world.now() < end {
        world.sleep(Duration::from_secs(1).min(end.saturating_sub(world.now()))).await;
        bar.set_position((world.now() - start).as_secs());
    }
    let (mut latencies, mut errors) = (Latencies::new(), 0u64);
    for caller in callers {
        let (measured, failed) = caller.await.map_err(|error| Failure::failed(error.to_string()))?;
        latencies.merge(&measured);
        errors += failed;
    }
    bar.finish_and_clear();
    let rate = latencies.count() as f64 / (world.now() - start).as_secs_f64();
    let name = if kind == Kind::Put { "put" } else { "get" };
    let mut document = latencies.document();
    document["what"] = name.into();
    document["clients"] = args.clients.into();
    document["value_bytes"] = VALUE.into();
    document["per_second"] = rate.round().into();
    document["errors"] = errors.into();
    output::show(global.output, &json!(document), || {
        let mut row = latencies.row(name);
        row.extend([format!("{rate:.0}"), errors.to_string()]);
        output::table(&["WHAT", "COUNT", "P50 MS", "P99 MS", "MAX MS", "PER S", "ERRORS"], vec![row])
    });
    if errors == 0 { Ok(()) } else { Err(Failure::failed(format!("{errors} requests failed"))) }
}

fn put_of(key: u32, value: &[u8]) -> PutOptions<'static> {
    PutOptions::new(format!("bench/{key}"), value)
}

async fn closed_loop(
    kind: Kind,
    client: Client,
    caller: u32,
    value: Arc<Vec<u8>>,
    end: Duration,
    world: World,
) -> (Latencies, u64) {
    let (mut latencies, mut errors) = (Latencies::new(), 0);
    let mut key = caller;
    loop {
        let began = world.now();
        if began >= end {
            return (latencies, errors);
        }
        key = (key + 1) % KEYS;
        let done = match kind {
            Kind::Put => client.put(put_of(key, &value)).await.map(|_| ()),
            Kind::Get => client.get(format!("bench/{key}").into_bytes()).await.map(|_| ()),
        };
        match done {
            Ok(()) => latencies.record(world.now() - began),
            Err(_) => errors += 1,
        }
    }
}
