//! `jepsen-lite`: kills real processes, records a history of what clients saw, and checks it.
//!
//! It knows Palisade only from outside: the gRPC API and the command line. No code is shared with what is checked, so that a
//! mistake is not made twice. Not affiliated with Jepsen.

#![allow(clippy::disallowed_methods)] // It runs in the real world only, and shares no seam with what it checks.

mod api;
mod processes;
mod scenarios;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;

use clap::{Parser, Subcommand, ValueEnum};

use jepsen_lite::checkers::Budget;
use jepsen_lite::verdict::{Finding, HARNESS, USAGE, Verdict};
use jepsen_lite::{checkers, export, history, report};

/// Chaos on real processes, checked histories. Not affiliated with Jepsen.
///
/// Exit codes: 0 pass, 1 violation, 2 usage, 3 unknown, 4 the harness failed.
#[derive(Parser)]
#[command(name = "jepsen-lite", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints one scenario a line, its name first.
    List,
    /// Runs a scenario and checks its history.
    Run {
        /// A name from `list`.
        scenario: String,
        /// The seed of everything that the harness decides.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How long faults go on, such as 60s.
        #[arg(long = "for", default_value = "60s", value_parser = seconds)]
        span: Duration,
        /// Where the processes run.
        #[arg(long, value_enum, default_value = "local")]
        target: Target,
        /// The binary to test; it must be of the same commit as this harness.
        #[arg(long, default_value = "target/release/palisade")]
        palisade: PathBuf,
        /// Run folders are made below this one.
        #[arg(long, default_value = "target/jepsen-lite")]
        store: PathBuf,
    },
    /// Checks a history that was recorded before.
    Check {
        /// A history.jsonl.
        history: PathBuf,
        /// Also writes it as EDN, for Jepsen's own checkers.
        #[arg(long, value_name = "FILE")]
        edn: Option<PathBuf>,
        /// Searches give up after this long, and say "unknown". Without it a number of steps bounds them, which is the same everywhere.
        #[arg(long, value_parser = seconds)]
        budget: Option<Duration>,
    },
    /// Writes `report.html` into the folder of a run, from its history.
    Report {
        /// A run folder.
        dir: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// Processes on this machine.
    Local,
    /// Containers (not built yet).
    Compose,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let span: u64 = number.parse().map_err(|_| format!("'{text}' is not a number of seconds, such as 60s"))?;
    if (1..=86_400).contains(&span) {
        Ok(Duration::from_secs(span))
    } else {
        Err(format!("'{text}' is not between 1s and 86400s"))
    }
}

/// Judges a recorded history, after exporting it if that was asked for.
fn check(history: &Path, edn: Option<&Path>, budget: Option<Duration>) -> anyhow::Result<Vec<Finding>> {
    let history = history::read(history).with_context(|| history.display().to_string())?;
    if let Some(path) = edn {
        let file = std::fs::File::create(path).with_context(|| format!("--edn {}", path.display()))?;
        export::edn(&history, &mut std::io::BufWriter::new(file))
            .with_context(|| format!("--edn {}", path.display()))?;
    }
    let budget = match budget {
        Some(span) => Budget { steps: u64::MAX, until: Some(Instant::now() + span) },
        None => Budget::default(),
    };
    Ok(checkers::check_within(&history, budget))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let verdict = match cli.command {
        Command::List => {
            for scenario in scenarios::ALL {
                println!("{:<16} {}", scenario.name, scenario.what);
            }
            return ExitCode::SUCCESS;
        }
        Command::Run { scenario, seed, span, target, palisade, store } => {
            let Some(scenario) = scenarios::ALL.iter().find(|known| known.name == scenario) else {
                eprintln!("jepsen-lite: no scenario '{scenario}'; `jepsen-lite list` names them");
                return ExitCode::from(USAGE);
            };
            if matches!(target, Target::Compose) {
                eprintln!("jepsen-lite: --target compose is not built yet; use local");
                return ExitCode::from(USAGE);
            }
            scenarios::run(scenario, seed, span, &palisade, &store)
        }
        Command::Check { history, edn, budget } => check(&history, edn.as_deref(), budget),
        Command::Report { dir } => {
            return match report::write(&dir, Budget::default()) {
                Ok((path, verdict)) => {
                    println!("{}: {verdict}", path.display());
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("jepsen-lite: no report: {error}");
                    ExitCode::from(HARNESS)
                }
            };
        }
    };
    match verdict {
        Ok(findings) => {
            for finding in &findings {
                println!("{finding}");
            }
            let verdict = Verdict::of(&findings);
            println!("verdict: {verdict}");
            ExitCode::from(verdict.code())
        }
        Err(error) => {
            eprintln!("jepsen-lite: the harness failed: {error:#}");
            ExitCode::from(HARNESS)
        }
    }
}
