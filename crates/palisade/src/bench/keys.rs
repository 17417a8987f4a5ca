//! `palisade bench put|get`: keys of 256 bytes, as single requests or over data streams.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_client::{Client, Pipeline, PutOptions};
use palisade_world::World;

use super::curve::{self, Curve};
use super::load::{Measured, Work, drive, kind};
use super::nodes::Nodes;
use super::record::Record;
use crate::cli::{Global, LoadArgs};
use crate::exit::Failure;
use crate::output;

const VALUE: usize = 256;

/// Keys that the callers write and read.
const KEYS: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Get,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Put => "put",
            Kind::Get => "get",
        }
    }
}

/// How many calls were answered.
pub(super) type Done = Arc<AtomicU64>;

pub(super) async fn run(
    kind: Kind,
    args: LoadArgs,
    picture: Option<PathBuf>,
    global: &Global,
    world: World,
) -> Result<(), Failure> {
    let record = Record::begin();
    let nodes = Nodes::of(args.own_cluster, global, &world).await?;
    let done = Done::default();
    let answered = Arc::clone(&done);
    let curve = picture.as_ref().map(|_| Curve::begin(&nodes, move || answered.load(Ordering::Relaxed), &world));
    let measured = measure(kind, &args, &nodes, &done, &world).await;
    let samples = curve.map(|curve| curve.samples()).unwrap_or_default();
    nodes.stop().await;
    let measured = measured?;
    let mut figures = measured.document(&args);
    figures["value_bytes"] = VALUE.into();
    if let Some(file) = picture {
        figures["nodes"] = curve::document(&samples);
        let title =
            format!("{} puts of {VALUE} bytes, {:.0} per second", measured.latencies.count(), measured.per_second());
        std::fs::write(&file, curve::svg(&title, &samples))
            .map_err(|error| Failure::failed(format!("--curve '{}': {error}", file.display())))?;
    }
    output::show(global.output, &record.document(kind.name(), figures), || measured.table(kind.name()));
    measured.verdict()
}

/// Puts or gets, until the time is up.
pub(super) async fn measure(
    kind: Kind,
    args: &LoadArgs,
    nodes: &Nodes,
    done: &Done,
    world: &World,
) -> Result<Measured, Failure> {
    let clients = nodes.clients(args.clients)?;
    for key in 0..KEYS.min(u64::from(args.clients)) {
        clients[0].put(put_of(key, &[b'x'; VALUE])).await?;
    }
    let lines = clients
        .into_iter()
        .map(|client| if args.pipelined { Line::Stream(client.pipeline()) } else { Line::Single(client) })
        .collect();
    drive(Arc::new(Keys { kind, lines, value: vec![b'x'; VALUE], done: Arc::clone(done) }), args, world).await
}

/// How requests travel.
enum Line {
    Single(Client),
    Stream(Pipeline),
}

struct Keys {
    kind: Kind,
    lines: Vec<Line>,
    value: Vec<u8>,
    done: Done,
}

impl Work for Keys {
    async fn once(&self, caller: u32, turn: u64) -> Result<(), String> {
        let key = (u64::from(caller) + turn) % KEYS;
        let done = match (&self.lines[caller as usize % self.lines.len()], self.kind) {
            (Line::Single(client), Kind::Put) => client.put(put_of(key, &self.value)).await.map(drop),
            (Line::Single(client), Kind::Get) => client.get(name(key)).await.map(drop),
            (Line::Stream(stream), Kind::Put) => stream.put(put_of(key, &self.value)).await.map(drop),
            (Line::Stream(stream), Kind::Get) => stream.get(name(key)).await.map(drop),
        };
        self.done.fetch_add(1, Ordering::Relaxed);
        done.map_err(kind)
    }
}

fn name(key: u64) -> Vec<u8> {
    format!("bench/{key}").into_bytes()
}

fn put_of(key: u64, value: &[u8]) -> PutOptions<'static> {
    PutOptions::new(name(key), value)
}
