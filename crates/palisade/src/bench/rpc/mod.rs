//! `palisade bench rpc`: fenced calls between two processes on this machine, beside raw tonic and a raw TCP echo, all in one run
//! and in turn, so that what the machine does besides befalls them alike.
//!
//! Reading order: `server` (the other process), `loads` (what is measured), `memory` (what idle gateways and queued calls cost).

mod loads;
mod memory;
mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use palisade_fence::{ClusterId, Token};
use palisade_rpc::{RpcService, RpcServiceConfig, Stamp};
use palisade_world::World;
use serde_json::{Map, Value, json};

use super::record::Record;
use super::{HEADER, Latencies};
use crate::cli::{Global, RpcLoadArgs};
use crate::exit::Failure;
use crate::output;
use crate::processes::Process;

/// The messages, the gateway and the plain service.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)] // generated, and not all of it is used
mod proto {
    include!(concat!(env!("OUT_DIR"), "/palisade.bench.v1.rs"));
}

/// The leadership of the other process.
const CLUSTER: ClusterId = ClusterId(0xbe);
const ELECTION: &str = "bench";

fn token() -> Token {
    Token::new(1, 7)
}

fn stamp() -> Stamp {
    Stamp::fixed(CLUSTER, ELECTION, token())
}

pub(super) async fn run(args: RpcLoadArgs, global: &Global, world: World) -> Result<(), Failure> {
    if args.serve {
        return server::serve(world).await;
    }
    let names: Vec<&str> = loads::ALL.iter().map(|load| load.name).collect();
    if let Some(unknown) = args.only.iter().find(|name| !names.contains(&name.as_str())) {
        let why = format!("there is no such load; there are {}", names.join(", "));
        return Err(Failure::usage("--only", unknown.clone(), why));
    }
    let record = Record::begin();
    let logs = std::env::temp_dir().join(format!("palisade-bench-rpc-{}", std::process::id()));
    std::fs::create_dir_all(&logs)?;
    let logs = Logs(logs);
    let other =
        Process::start("echo", ["bench", "rpc", "--serve"].map(str::to_owned).to_vec(), &logs.0, &world).await?;
    let measured = measure(&args, &other, &world).await;
    other.stop(Duration::from_secs(2), &world).await;
    let (loads, memory) = measured?;
    let document = record.document("rpc", document(&args, &loads, &memory));
    output::show(global.output, &document, || table(&loads, &document));
    Ok(())
}

/// Goes away with the measurement.
struct Logs(PathBuf);

impl Drop for Logs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // it is in the folder for temporary files
    }
}

/// What one load came to, over all rounds.
struct Measured {
    load: &'static loads::Load,
    latencies: Latencies,
    done: u64,
    span: Duration,
    /// Messages per second of each round.
    rounds: Vec<f64>,
}

impl Measured {
    fn per_second(&self) -> f64 {
        self.done as f64 / self.span.as_secs_f64()
    }
}

async fn measure(args: &RpcLoadArgs, other: &Process, world: &World) -> Result<(Vec<Measured>, Value), Failure> {
    let service = RpcService::start(RpcServiceConfig::local(), world.clone())
        .await
        .map_err(|error| Failure::failed(error.to_string()))?;
    let ways = loads::Ways::connect(&other.address, &service, args, world).await?;
    let wanted = |load: &&loads::Load| args.only.is_empty() || args.only.iter().any(|name| name == load.name);
    let mut all: Vec<Measured> = loads::ALL
        .iter()
        .filter(wanted)
        .map(|load| Measured { load, latencies: Latencies::new(), done: 0, span: Duration::ZERO, rounds: Vec::new() })
        .collect();
    let bar = super::progress(u64::from(args.rounds) * all.len() as u64, "measuring");
    for _ in 0..args.rounds {
        for one in &mut all {
            // On a thread of the runtime, as a service's own work would be.
            let load = world.spawn("load", (one.load.run)(ways.clone(), args.span, world.clone()));
            let begun = world.now();
            let did = load.await.map_err(|error| Failure::failed(error.to_string()))??;
            let span = world.now() - begun;
            did.latencies.iter().for_each(|micros| one.latencies.record(Duration::from_micros((*micros).into())));
            one.done += did.count;
            one.span += span;
            one.rounds.push((did.count as f64 / span.as_secs_f64()).round());
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let memory = match args.only.is_empty() {
        true => memory::measure(&service, &ways, other, world).await?,
        false => Value::Null,
    };
    Ok((all, memory))
}

fn document(args: &RpcLoadArgs, loads: &[Measured], memory: &Value) -> Value {
    let mut document = Map::new();
    document.insert("bytes".into(), args.bytes.into());
    document.insert("in_flight".into(), args.in_flight.into());
    document.insert("rounds".into(), args.rounds.into());
    for one in loads {
        let mut figures = match one.latencies.count() {
            0 => json!({ "count": one.done }),
            _ => one.latencies.document(),
        };
        figures["per_second"] = one.per_second().round().into();
        figures["per_second_of_rounds"] = json!(one.rounds);
        figures["what"] = one.load.title.into();
        document.insert(one.load.name.into(), figures);
    }
    document.insert("ratios".into(), ratios(loads));
    document.insert("token_check_ns".into(), token_check_ns().into());
    document.insert("memory".into(), memory.clone());
    Value::Object(document)
}

/// The comparisons that are aimed at.
fn ratios(loads: &[Measured]) -> Value {
    let find = |name: &str| loads.iter().find(|one| one.load.name == name);
    let of = |one: &str, other: &str, figure: fn(&Measured) -> f64| {
        let (one, other) = (figure(find(one)?), figure(find(other)?));
        (other > 0.0).then(|| (one / other * 100.0).round() / 100.0)
    };
    let unary = ["tonic_unary_64", "tonic_unary_pipelined"]
        .into_iter()
        .filter_map(find)
        .max_by(|one, other| one.per_second().total_cmp(&other.per_second()))
        .map_or("tonic_unary_64", |one| one.load.name);
    json!({
        "ask_pipelined_to_tonic_unary": of("ask_pipelined", unary, Measured::per_second),
        "ask_one_p50_to_tonic_unary_one": of("ask_one", "tonic_unary_one", |one| one.latencies.at(0.5)),
        "tell_to_tonic_stream": of("tell", "tonic_stream", Measured::per_second),
    })
}

/// What the comparison of tokens itself takes: a guard's answer to an equal, a lower and a higher token.
#[allow(clippy::disallowed_methods)] // spans of nanoseconds, of pure arithmetic
fn token_check_ns() -> f64 {
    const CHECKS: u32 = 30_000_000;
    let guard = palisade_fence::Guard::restored(Some(token()));
    let tokens = [token(), Token::new(1, 6), Token::new(1, 8)];
    let begun = Instant::now();
    for turn in 0..CHECKS {
        let guard = std::hint::black_box(&guard);
        let verdict = guard.check(std::hint::black_box(tokens[turn as usize % tokens.len()]));
        std::hint::black_box(&verdict);
    }
    (begun.elapsed().as_nanos() as f64 / f64::from(CHECKS) * 100.0).round() / 100.0
}

fn table(loads: &[Measured], document: &Value) -> String {
    let row = |one: &Measured| {
        let mut row = one.latencies.row(one.load.title);
        row[1] = one.done.to_string();
        row.push(format!("{:.0}", one.per_second()));
        row
    };
    let loads = output::table(&[&HEADER[..], &["PER S"]].concat(), loads.iter().map(row).collect());
    format!(
        "{loads}\nratios: {}\ntoken check: {} ns\nmemory: {}",
        document["ratios"], document["token_check_ns"], document["memory"]
    )
}
