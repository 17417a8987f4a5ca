//! `palisade-sim`: runs seeds, replays one, and shows that planted bugs are caught.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use palisade_sim::{Plan, Report, replay_command, run};

/// Deterministic simulation of the coordination store: the same seed gives the same trace.
#[derive(Parser)]
#[command(name = "palisade-sim", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds on all cores; exit 1 with the failing seed and the command that replays it.
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
        /// With this bug planted (one of those that `planted` lists; needs a build with `--features planted`).
        #[arg(long)]
        planted: Option<String>,
    },
    /// Runs one seed twice and says where the traces part; exit 1 if they do.
    Twice {
        /// The seed.
        seed: u64,
    },
    /// Plants each known bug and prints what caught it; exit 1 if one is not caught. Needs a build with `--features planted`.
    Planted,
}

/// A run in which one of these never happened in any seed proves too little (only asked of 20 seeds and more).
const REQUIRED: [&str; 6] = ["crash-node", "crash-all", "cut-off", "one-way", "crash-candidate", "cut-off-candidate"];

/// What a usage error exits with.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // Filtered by RUST_LOG; silent by default.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Run { seeds, from } => run_many(seeds, from),
        Command::Replay { seed, planted: None } => tell(&run(&Plan::draw(seed))),
        Command::Replay { seed, planted: Some(name) } => replay_planted(seed, &name),
        Command::Twice { seed } => twice(seed),
        Command::Planted => planted(),
    }
}

fn tell(report: &Report) -> ExitCode {
    print!("{}{}", report.plan, report.trace);
    println!("fingerprint {:016x}", report.fingerprint);
    match &report.violation {
        None => ExitCode::SUCCESS,
        Some(why) => {
            println!("VIOLATION {why}");
            ExitCode::FAILURE
        }
    }
}

fn twice(seed: u64) -> ExitCode {
    let first = run(&Plan::draw(seed));
    // Shown with RUST_LOG=info, between what the two runs log.
    tracing::info!(fingerprint = first.fingerprint, "the first run has ended");
    let second = run(&Plan::draw(seed));
    match first.trace.lines().zip(second.trace.lines()).find(|(one, two)| one != two) {
        None if first.trace == second.trace => {
            println!("seed {seed}: twice the same {} bytes", first.trace.len());
            ExitCode::SUCCESS
        }
        parted => {
            println!("seed {seed}: the traces part at {parted:#?}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "planted")]
fn replay_planted(seed: u64, name: &str) -> ExitCode {
    match palisade_sim::planted::all().into_iter().find(|bug| bug.name == name) {
        Some(bug) => tell(&bug.run(seed)),
        None => {
            let names: Vec<_> = palisade_sim::planted::all().iter().map(|bug| bug.name).collect();
            eprintln!("no planted bug '{name}': there are {}", names.join(", "));
            ExitCode::from(USAGE)
        }
    }
}

#[cfg(feature = "planted")]
fn planted() -> ExitCode {
    // One bug after the other: what a run prints when a planted bug makes it panic stays readable.
    let verdicts: Vec<_> = palisade_sim::planted::all().into_iter().map(palisade_sim::planted::Bug::hunt).collect();
    println!("{:<18} {:<6} caught by", "bug", "seeds");
    for verdict in &verdicts {
        let violation = verdict.caught.as_ref().and_then(|report| report.violation.as_deref());
        let by = violation.map_or("NOT CAUGHT", |why| why.split(':').next().unwrap_or(why));
        println!("{:<18} {:<6} {by}", verdict.bug.name, verdict.seeds);
    }
    if verdicts.iter().all(|verdict| verdict.caught.is_some()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(feature = "planted"))]
fn replay_planted(_: u64, _: &str) -> ExitCode {
    planted()
}

#[cfg(not(feature = "planted"))]
fn planted() -> ExitCode {
    eprintln!("this build has no planted bugs; use: cargo run --release -p palisade-sim --features planted -- planted");
    ExitCode::from(USAGE)
}

/// Sums over all seeds.
#[derive(Default)]
struct Summary {
    run: u64,
    faults: BTreeMap<&'static str, u64>,
    grants: u64,
    acknowledged: u64,
    fenced: u64,
    refused: u64,
    simulated: Duration,
    failed: Vec<Report>,
}

impl Summary {
    fn take(&mut self, mut report: Report) {
        self.run += 1;
        for (kind, count) in &report.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.grants += report.progress.grants;
        self.acknowledged += report.progress.acknowledged;
        self.fenced += report.progress.fenced;
        self.refused += report.progress.refused;
        self.simulated += report.simulated;
        // Faults that hit nothing, or a cluster that never came up, must not pass for a good run.
        if report.violation.is_none() && (report.progress.grants == 0 || report.progress.acknowledged == 0) {
            report.violation = Some("coverage: nothing was granted or nothing was written".into());
        }
        if report.violation.is_some() {
            self.failed.push(report);
        }
    }
}

#[allow(clippy::disallowed_methods)] // how long the run took in real time: for people, outside of any simulation
fn run_many(seeds: u64, from: u64) -> ExitCode {
    let began = Instant::now();
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
            summary.take(report);
            stop.fetch_or(!summary.failed.is_empty(), Ordering::Relaxed);
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
    let (simulated, real) = (summary.simulated.as_secs_f64(), began.elapsed().as_secs_f64());
    println!(
        "{} seeds from {from}: {} grants, {} writes, {} fenced writes and {} refused as stale; faults {:?}",
        summary.run, summary.grants, summary.acknowledged, summary.fenced, summary.refused, summary.faults
    );
    println!("{simulated:.0} s simulated in {real:.1} s: {:.0} times real time", simulated / real);
    for report in &summary.failed {
        println!(
            "VIOLATION {}\n{}commit {}\n{}",
            report.violation.as_deref().unwrap_or_default(),
            report.plan,
            palisade_server::build_info::COMMIT,
            replay_command(report.plan.seed)
        );
    }
    let missing: Vec<_> = REQUIRED.iter().filter(|kind| seeds >= 20 && !summary.faults.contains_key(*kind)).collect();
    if summary.failed.is_empty() && !missing.is_empty() {
        println!("COVERAGE these faults never happened: {missing:?}");
    }
    if summary.failed.is_empty() && missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
