//! `palisade bench …`: measures. Figures go to stdout as a table or JSON, with what they were measured on. Nothing here passes
//! or fails by a time; what must not happen at all (an error, a lost session) makes the exit code 1.
//!
//! Reading order: [`Latencies`], `record` (what figures are kept with), `nodes` (what is measured: `--endpoints`, or nodes of
//! its own), `load` (callers in a closed loop or at a fixed rate), the loads (`keys` with `curve`, `elect`, `session`), `watch`,
//! `failover`, `node`; `rpc`, which needs no nodes.

mod curve;
mod elect;
mod failover;
mod keys;
mod load;
mod node;
mod nodes;
mod record;
mod rpc;
mod session;
mod watch;

use std::time::Duration;

use hdrhistogram::Histogram;
use palisade_world::World;
use serde_json::{Value, json};

use crate::cli::{BenchCommand, Global};
use crate::exit::Failure;
use crate::interrupt::or_interrupted;
use crate::units::ms_f;

pub(crate) use failover::store_leader;

pub(crate) async fn run(command: BenchCommand, global: &Global, world: World) -> Result<(), Failure> {
    or_interrupted(measure(command, global, world)).await
}

async fn measure(command: BenchCommand, global: &Global, world: World) -> Result<(), Failure> {
    match command {
        BenchCommand::Put(args) => keys::run(keys::Kind::Put, args.load, args.curve, global, world).await,
        BenchCommand::Get(args) => keys::run(keys::Kind::Get, args, None, global, world).await,
        BenchCommand::Elect(args) => elect::run(args, global, world).await,
        BenchCommand::Session(args) => session::run(args, global, world).await,
        BenchCommand::Watch(args) => watch::run(args, global, world).await,
        BenchCommand::Rpc(args) => rpc::run(args, global, world).await,
        BenchCommand::Node(args) => node::run(args, global, world).await,
        BenchCommand::Failover(args) => failover::run(args, global, world).await,
    }
}

/// Durations from 1 µs to 10 minutes, three significant digits.
#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Latencies {
        Latencies(Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are constants that fit"))
    }

    pub(crate) fn record(&mut self, span: Duration) {
        self.0.saturating_record(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn merge(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    fn at(&self, quantile: f64) -> f64 {
        ms_f(Duration::from_micros(self.0.value_at_quantile(quantile)))
    }

    fn max(&self) -> f64 {
        ms_f(Duration::from_micros(self.0.max()))
    }

    pub(crate) fn document(&self) -> Value {
        json!({
            "count": self.count(), "p50_ms": self.at(0.5), "p90_ms": self.at(0.9), "p99_ms": self.at(0.99),
            "p999_ms": self.at(0.999), "max_ms": self.max(),
        })
    }

    /// As [`HEADER`] names it.
    pub(crate) fn row(&self, name: &str) -> Vec<String> {
        let mut row = vec![name.to_owned(), self.count().to_string()];
        row.extend([self.at(0.5), self.at(0.9), self.at(0.99), self.max()].map(|ms| format!("{ms:.2}")));
        row
    }
}

/// Of [`Latencies::row`].
pub(crate) const HEADER: [&str; 6] = ["WHAT", "COUNT", "P50 MS", "P90 MS", "P99 MS", "MAX MS"];

/// A progress bar on stderr; invisible where stderr is no terminal.
pub(crate) fn progress(length: u64, what: &'static str) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {elapsed}")
        .expect("the template is a constant")
        .progress_chars("=> ");
    indicatif::ProgressBar::new(length).with_style(style).with_message(what)
}

/// Lets a bar follow the clock until `end`.
pub(crate) async fn progress_until(end: Duration, what: &'static str, world: &World) {
    let start = world.now();
    let bar = progress(end.saturating_sub(start).as_secs().max(1), what);
    while world.now() < end {
        world.sleep(Duration::from_secs(1).min(end.saturating_sub(world.now()))).await;
        bar.set_position((world.now() - start).as_secs());
    }
    bar.finish_and_clear();
}
