//! The command line, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::targets::Target;

/// Chaos on real processes, checked histories. Not affiliated with Jepsen.
///
/// Exit codes: 0 pass, 1 violation, 2 usage, 3 unknown, 4 the harness failed.
#[derive(Parser, Debug)]
#[command(name = "jepsen-lite", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Prints one scenario a line, its name first.
    List,
    /// Prints which nemesis works where.
    Nemeses,
    /// Runs a scenario and checks its history.
    Run(RunArgs),
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
    /// Runs the table of planted bugs, or some of it: each must be caught. Needs a palisade with the feature `planted`.
    Planted {
        /// Names of bugs, or of scenarios; by default all.
        names: Vec<String>,
        /// A binary that was built with the feature `planted`.
        #[arg(long, default_value = "target/debug/palisade")]
        palisade: PathBuf,
        /// Run folders are made below this one.
        #[arg(long, default_value = "target/jepsen-lite")]
        store: PathBuf,
    },
    /// Runs the same checks against etcd: what does not fence, or does not look whether a waiter is still there, must be caught.
    Control {
        /// Which of etcd's services.
        #[arg(value_enum)]
        of: Control,
        /// The seed of everything that the harness decides.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How long it goes on, such as 20s.
        #[arg(long = "for", default_value = "20s", value_parser = seconds)]
        span: Duration,
        /// The etcd server to start.
        #[arg(long, default_value = "etcd")]
        etcd: PathBuf,
        /// Run folders are made below this one.
        #[arg(long, default_value = "target/jepsen-lite")]
        store: PathBuf,
    },
    /// The child of `elect run` in the scenario mutual-exclusion.
    #[command(hide = true)]
    Act {
        /// Where the harness listens.
        address: String,
    },
}

/// What of etcd is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Control {
    /// Its lock service.
    Lock,
    /// Its election service.
    Campaign,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// A name from `list`.
    pub(crate) scenario: String,
    /// The seed of everything that the harness decides.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How long faults go on, such as 60s; each of the scenario's faults is played once at least.
    #[arg(long = "for", default_value = "60s", value_parser = seconds)]
    pub(crate) span: Duration,
    /// Where the processes run.
    #[arg(long, value_enum, default_value = "local")]
    pub(crate) target: Target,
    /// Other faults than the scenario's own, comma-separated names from `nemeses`.
    #[arg(long, value_delimiter = ',')]
    pub(crate) nemesis: Vec<String>,
    /// The binary to test; it must be of the same commit as this harness.
    #[arg(long, default_value = "target/release/palisade")]
    pub(crate) palisade: PathBuf,
    /// Run folders are made below this one.
    #[arg(long, default_value = "target/jepsen-lite")]
    pub(crate) store: PathBuf,
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
