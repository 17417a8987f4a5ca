//! `palisade-sim`: runs seeds, replays one, makes a failing one smaller, and shows that planted bugs are caught.

use std::path::PathBuf;
use std::process::ExitCode;
#[cfg(feature = "planted")]
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use palisade_sim::{Plan, Report, Summary, found, run, shrink};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Deterministic simulation of the whole: the same seed gives the same trace.
///
/// Nodes, clients and endpoints are the ones that ship; network, clocks and disks are simulated, and go wrong as a seed says.
#[derive(Parser)]
#[command(
    name = "palisade-sim",
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  palisade-sim run --seeds 200\n  palisade-sim replay 93\n  palisade-sim shrink 93 --output smaller.plan\n  \
                  palisade-sim replay --plan smaller.plan"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds on all cores, and every plan that once found something; exit 1 with the failing seed and the command
    /// that replays it.
    Run {
        /// How many seeds.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Runs on after a failure and lists all that failed.
        #[arg(long)]
        keep_going: bool,
    },
    /// Runs one seed and prints its plan, its trace and what became of it.
    Replay(What),
    /// Runs one seed twice and says where the traces part; exit 1 if they do.
    Twice(What),
    /// Makes the plan of a failing seed smaller while it fails in the same way, and prints what is left.
    Shrink {
        #[command(flatten)]
        what: What,
        /// How many runs that may take.
        #[arg(long, default_value_t = 200)]
        runs: usize,
        /// Writes the plan there, too.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Prints the plan of a seed without running it.
    Plan(What),
    /// Plants each bug that is hunted here, or one of all, and prints what caught it; exit 1 if one is not caught. Needs a build
    /// with `--features planted`.
    Planted {
        /// Only this one.
        name: Option<String>,
    },
}

/// What to run.
#[derive(Args)]
struct What {
    /// The seed.
    #[arg(required_unless_present = "plan")]
    seed: Option<u64>,
    /// Instead of a seed's plan: the one in this file, or the kept one of this name.
    #[arg(long, value_name = "FILE", conflicts_with = "seed")]
    plan: Option<String>,
    /// With this bug planted (needs a build with `--features planted`).
    #[arg(long, value_name = "NAME")]
    planted: Option<String>,
}

/// What a usage error exits with.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // Filtered by RUST_LOG; silent by default.
    let filter = match std::env::var("RUST_LOG").map_or(Ok(Targets::new()), |filter| filter.parse()) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("RUST_LOG: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter);
    tracing_subscriber::registry().with(layer).init();
    let done = match Cli::parse().command {
        Command::Run { seeds, from, keep_going } => Ok(run_many(seeds, from, keep_going)),
        Command::Replay(what) => what.runner().map(|(plan, run)| tell(&run(&plan))),
        Command::Twice(what) => what.runner().map(|(plan, run)| twice(&plan, &*run)),
        Command::Shrink { what, runs, output } => {
            what.runner().and_then(|(plan, run)| shrink_plan(&plan, &*run, runs, output))
        }
        Command::Plan(what) => what.runner().map(|(plan, _)| {
            print!("{plan}");
            ExitCode::SUCCESS
        }),
        Command::Planted { name } => planted(name.as_deref()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("palisade-sim: {error:#}");
        ExitCode::from(USAGE)
    })
}

type Runner = Box<dyn Fn(&Plan) -> Report>;

impl What {
    fn runner(&self) -> anyhow::Result<(Plan, Runner)> {
        let plan = match (&self.plan, self.seed) {
            (Some(name), _) => read_plan(name)?,
            (None, Some(seed)) => Plan::draw(seed),
            (None, None) => anyhow::bail!("name a seed or a plan"),
        };
        let run: Runner = match &self.planted {
            None => Box::new(run),
            Some(name) => planted_runner(name)?,
        };
        Ok((plan, run))
    }
}

fn read_plan(name: &str) -> anyhow::Result<Plan> {
    let text = match found::ALL.iter().find(|(kept, _)| *kept == name) {
        Some((_, text)) => (*text).to_owned(),
        None => std::fs::read_to_string(name).with_context(|| format!("--plan: '{name}' cannot be read"))?,
    };
    text.parse().with_context(|| format!("--plan: '{name}' is not a plan"))
}

fn tell(report: &Report) -> ExitCode {
    print!("{}\n{}", report.plan, report.trace);
    println!("fingerprint {:016x}", report.fingerprint);
    match &report.violation {
        None => ExitCode::SUCCESS,
        Some(why) => {
            println!("VIOLATION {why}");
            ExitCode::FAILURE
        }
    }
}

fn twice(plan: &Plan, run: &dyn Fn(&Plan) -> Report) -> ExitCode {
    let first = run(plan);
    // Shown with RUST_LOG=info, between what the two runs log.
    tracing::info!(fingerprint = first.fingerprint, "the first run has ended");
    let second = run(plan);
    match first.trace.lines().zip(second.trace.lines()).find(|(one, two)| one != two) {
        None if first.trace == second.trace => {
            println!("seed {}: twice the same {} bytes", plan.seed, first.trace.len());
            ExitCode::SUCCESS
        }
        parted => {
            println!("seed {}: the traces part at {parted:#?}", plan.seed);
            ExitCode::FAILURE
        }
    }
}

fn shrink_plan(
    plan: &Plan,
    run: &dyn Fn(&Plan) -> Report,
    budget: usize,
    output: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    let first = run(plan);
    let Some(violated) = first.violated() else {
        println!("seed {} violates nothing: there is nothing to make smaller", plan.seed);
        return Ok(ExitCode::SUCCESS);
    };
    eprintln!("violates {violated}; making it smaller");
    let bar = indicatif::ProgressBar::new(budget as u64);
    let (small, runs) = shrink(plan, budget, |smaller| {
        bar.inc(1);
        run(smaller).violated() == Some(violated)
    });
    bar.finish_and_clear();
    let last = run(&small);
    println!("# {}\n# after {runs} runs", last.violation.as_deref().unwrap_or_default().replace('\n', " "));
    print!("{small}");
    if let Some(path) = output {
        std::fs::write(&path, small.to_string()).with_context(|| format!("--output: {}", path.display()))?;
    }
    Ok(ExitCode::FAILURE)
}

#[cfg(feature = "planted")]
fn planted_runner(name: &str) -> anyhow::Result<Runner> {
    let bug = name.parse().map_err(anyhow::Error::msg)?;
    Ok(Box::new(move |plan| palisade_sim::planted::run(bug, plan)))
}

#[cfg(feature = "planted")]
fn planted(name: Option<&str>) -> anyhow::Result<ExitCode> {
    use palisade_sim::planted::{HUNTED, hunt};

    // A bug that is not in the table may be caught by anybody.
    let hunted: Vec<(palisade_planted::Bug, Option<&str>)> = match name {
        Some(name) => {
            let bug = name.parse().map_err(anyhow::Error::msg)?;
            vec![(bug, HUNTED.iter().find(|(known, _)| *known == bug).map(|(_, by)| *by))]
        }
        None => HUNTED.iter().map(|(bug, by)| (*bug, Some(*by))).collect(),
    };
    println!("{:<34} {:<8} {:<38} then also", "bug", "seeds", "caught by");
    let (next, all_caught) = (AtomicUsize::new(0), AtomicBool::new(true));
    let work = || {
        while let Some((bug, by)) = hunted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let verdict = hunt(*bug, *by);
            let by = verdict.caught.as_ref().and_then(Report::violated);
            let others = verdict.caught.iter().flat_map(|report| &report.objected);
            let others: Vec<_> = others.copied().filter(|other| Some(*other) != by).collect();
            let (by_name, others) = (by.unwrap_or("NOT CAUGHT"), others.join(", "));
            println!("{}", format!("{:<34} {:<8} {by_name:<38} {others}", bug.name(), verdict.after).trim_end());
            all_caught.fetch_and(by.is_some(), Ordering::Relaxed);
        }
    };
    on_all_cores(work);
    Ok(if all_caught.into_inner() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(not(feature = "planted"))]
fn planted_runner(_: &str) -> anyhow::Result<Runner> {
    anyhow::bail!("this build has no planted bugs; use: cargo run -p palisade-sim --features planted -- planted")
}

#[cfg(not(feature = "planted"))]
fn planted(_: Option<&str>) -> anyhow::Result<ExitCode> {
    planted_runner("").map(|_| ExitCode::SUCCESS)
}

fn on_all_cores(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(&work);
        }
    });
}

/// A bar on a terminal, a line now and then in a log.
fn progress(bar: &indicatif::ProgressBar, runs: u64) {
    bar.set_position(runs);
    if bar.is_hidden() && runs.is_multiple_of(25) {
        eprintln!("{runs} of {} runs", bar.length().unwrap_or_default());
    }
}

#[allow(clippy::disallowed_methods)] // how long the run took in real time: for people, outside of any simulation
fn run_many(seeds: u64, from: u64, keep_going: bool) -> ExitCode {
    let began = Instant::now();
    let kept: Vec<Plan> =
        found::ALL.iter().map(|(name, text)| text.parse().unwrap_or_else(|error| panic!("{name}: {error}"))).collect();
    let kept_count = kept.len() as u64;
    let bar = indicatif::ProgressBar::new(seeds + kept_count);
    let (next, stop, summary) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Summary::default()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let plan = match number.checked_sub(kept_count) {
                None => kept[number as usize].clone(),
                Some(more) if more < seeds => Plan::draw(from + more),
                Some(_) => return,
            };
            let report = run(&plan);
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(why) = &report.violation {
                bar.suspend(|| println!("VIOLATION {why}\n{}", found::replay_command(&plan)));
            }
            summary.add(report);
            progress(&bar, summary.runs());
            stop.fetch_or(!keep_going && !summary.failed.is_empty(), Ordering::Relaxed);
        }
    };
    on_all_cores(work);
    bar.finish_and_clear();
    let summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    let real = began.elapsed().as_secs_f64();
    println!("{summary}\n{real:.1} s: {:.0} times real time", summary.simulated().as_secs_f64() / real);
    for report in &summary.failed {
        println!(
            "\nVIOLATION {}\n{}commit {}\n{}",
            report.violation.as_deref().unwrap_or_default(),
            report.plan,
            env!("PALISADE_COMMIT"),
            found::replay_command(&report.plan)
        );
    }
    let missing = summary.missing();
    if !missing.is_empty() {
        println!("COVERAGE never happened: {}", missing.join(", "));
    }
    if summary.failed.is_empty() && missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
