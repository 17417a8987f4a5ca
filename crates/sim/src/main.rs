//! `palisade-sim`: runs seeds, replays one.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{Parser, Subcommand};
use palisade_sim::{Plan, Report, run};

/// Deterministic simulation of the coordination store: the same seed gives the same trace.
#[derive(Parser)]
#[command(name = "palisade-sim", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds on all cores; exit 1 with the first failing seed and the command that replays it.
    Run {
        /// How many seeds.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
    /// Runs one seed and prints its plan, its trace and what became of it.
    Replay {
        /// The seed.
        seed: u64,
    },
}

/// A run in which one of these never happened in any seed proves too little (only asked of 20 seeds and more).
const REQUIRED: [&str; 6] = ["crash-node", "crash-all", "cut-off", "one-way", "crash-candidate", "cut-off-candidate"];

fn main() -> ExitCode {
    // Filtered by RUST_LOG; silent by default.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Run { seeds, from } => run_many(seeds, from),
        Command::Replay { seed } => replay(seed),
    }
}

fn replay(seed: u64) -> ExitCode {
    let plan = Plan::draw(seed);
    let report = run(&plan);
    print!("{plan}{}", report.trace);
    println!("fingerprint {:016x}", report.fingerprint);
    match report.violation {
        None => ExitCode::SUCCESS,
        Some(why) => {
            println!("VIOLATION {why}");
            ExitCode::FAILURE
        }
    }
}

/// Sums over all seeds.
#[derive(Default)]
struct Summary {
    faults: BTreeMap<&'static str, u64>,
    grants: u64,
    acknowledged: u64,
    simulated: Duration,
    failed: Vec<Report>,
}

fn run_many(seeds: u64, from: u64) -> ExitCode {
    let bar = indicatif::ProgressBar::new(seeds);
    let (next, stop, summary) = (AtomicU64::new(from), AtomicBool::new(false), Mutex::new(Summary::default()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return;
            }
            let report = run(&Plan::draw(seed));
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            for (kind, count) in &report.faults {
                *summary.faults.entry(kind).or_default() += count;
            }
            summary.grants += report.grants;
            summary.acknowledged += report.acknowledged;
            summary.simulated += report.simulated;
            if report.violation.is_some() {
                stop.store(true, Ordering::Relaxed);
                summary.failed.push(report);
            }
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} seeds from {from}: {:.0} s simulated, {} grants, {} writes acknowledged, faults {:?}",
        bar.position(),
        summary.simulated.as_secs_f64(),
        summary.grants,
        summary.acknowledged,
        summary.faults
    );
    for report in &summary.failed {
        let seed = report.plan.seed;
        println!(
            "VIOLATION {}\n{}commit {}",
            report.violation.as_deref().unwrap_or_default(),
            report.plan,
            palisade_server::build_info::COMMIT
        );
        println!("replay with: cargo run --release -p palisade-sim -- replay {seed}");
    }
    let missing: Vec<_> = REQUIRED.iter().filter(|kind| seeds >= 20 && !summary.faults.contains_key(*kind)).collect();
    if !missing.is_empty() {
        println!("COVERAGE these faults never happened: {missing:?}");
    }
    if summary.failed.is_empty() && missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
