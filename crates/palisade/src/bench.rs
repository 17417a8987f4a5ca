//! `palisade bench …`: measures. Figures go to stdout as a table or JSON, with what they were measured on.

mod failover;
mod load;

use std::time::Duration;

use hdrhistogram::Histogram;
use palisade_world::World;
use serde_json::{Value, json};

use crate::cli::{BenchCommand, Global};
use crate::exit::Failure;
use crate::units::ms_f;

pub(crate) use failover::store_leader;

pub(crate) async fn run(command: BenchCommand, global: &Global, world: World) -> Result<(), Failure> {
    match command {
        BenchCommand::Put(args) => load::run(load::Kind::Put, args, global, world).await,
        BenchCommand::Get(args) => load::run(load::Kind::Get, args, global, world).await,
        BenchCommand::Failover { kills, store_kills } => failover::run(kills, store_kills, global, world).await,
    }
}

/// Durations from 1 µs to 10 minutes, three significant digits.
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

    pub(crate) fn at(&self, quantile: f64) -> f64 {
        ms_f(Duration::from_micros(self.0.value_at_quantile(quantile)))
    }

    pub(crate) fn max(&self) -> f64 {
        ms_f(Duration::from_micros(self.0.max()))
    }

    pub(crate) fn document(&self) -> Value {
        json!({ "count": self.count(), "p50_ms": self.at(0.5), "p99_ms": self.at(0.99), "max_ms": self.max() })
    }

    pub(crate) fn row(&self, name: &str) -> Vec<String> {
        vec![
            name.to_owned(),
            self.count().to_string(),
            format!("{:.2}", self.at(0.5)),
            format!("{:.2}", self.at(0.99)),
            format!("{:.2}", self.max()),
        ]
    }
}

/// A progress bar on stderr; invisible where stderr is no terminal.
pub(crate) fn progress(length: u64, what: &'static str) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {elapsed}")
        .expect("the template is a constant")
        .progress_chars("=> ");
    indicatif::ProgressBar::new(length).with_style(style).with_message(what)
}
