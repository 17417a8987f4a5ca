//! `jepsen-lite`: lets faults loose on real processes, records a history of what clients saw, and checks it.
//!
//! It knows Palisade only from outside: the gRPC API and the command line. No code is shared with what is checked, so that a
//! mistake is not made twice. The library beside this program judges; this program runs. Not affiliated with Jepsen.
//!
//! Reading order: [`scenarios`] (what is run), [`drive`] (a run from its first line to its last), [`workloads`] (what clients do),
//! [`nemeses`] (what goes wrong), [`stage`] and [`targets`] (what runs, and where), [`net`] (the proxies between), [`api`],
//! [`session`] and [`envelope`] (the wire), [`planted`] and [`controls`] (proof that it can fail).

#![allow(clippy::disallowed_methods)] // It runs in the real world only, and shares no seam with what it checks.

mod act;
mod api;
mod cli;
mod clock_control;
mod controls;
mod drive;
mod envelope;
mod nemeses;
mod net;
mod planted;
mod processes;
mod run;
mod scenarios;
mod session;
mod stage;
mod targets;
mod workloads;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use jepsen_lite::checkers::Budget;
use jepsen_lite::verdict::{Finding, HARNESS, USAGE, Verdict};
use jepsen_lite::{checkers, export, history, report};

use crate::cli::{Cli, Command, RunArgs};
use crate::drive::Asked;
use crate::nemeses::Nemesis;
use crate::scenarios::Scenario;
use crate::targets::Target;

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

/// Prints a line. Whoever has read enough (`list | head -1`) closes the pipe, and that is no mistake of ours.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn list() {
    for scenario in scenarios::ALL {
        let places = scenario.targets().join(", ");
        let places = if places.is_empty() { "nowhere on this machine" } else { &places };
        say(format_args!("{:<20} {} [{places}]", scenario.name, scenario.what));
    }
}

fn nemeses_table() {
    let cell = |works| match works {
        nemeses::Works::Yes => "yes".to_owned(),
        nemeses::Works::With(needs) => format!("with {needs}"),
        nemeses::Works::No => "no".to_owned(),
    };
    say("| nemesis | what it does | sim | local | compose | namespaces |\n|---|---|---|---|---|---|");
    for nemesis in Nemesis::ALL {
        let [local, compose, namespaces] = Target::ALL.map(|target| cell(nemesis.works(target)));
        let sim = if nemesis.simulated() { "yes" } else { "no" };
        say(format_args!("| `{}` | {} | {sim} | {local} | {compose} | {namespaces} |", nemesis.name(), nemesis.what()));
    }
}

/// What is to be run, or why that is a mistake.
fn asked(args: &RunArgs) -> Result<Asked, String> {
    let mut scenario = Scenario::find(&args.scenario)
        .ok_or_else(|| format!("no scenario '{}'; `jepsen-lite list` names them", args.scenario))?;
    if !args.nemesis.is_empty() {
        let find = |name: &String| {
            let found = Nemesis::ALL.iter().find(|nemesis| nemesis.name() == name).copied();
            found.ok_or_else(|| format!("no nemesis '{name}'; `jepsen-lite nemeses` names them"))
        };
        let chosen = args.nemesis.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        // For the rest of this process: a command runs one scenario.
        (scenario.nemeses, scenario.beside, scenario.counts) = (Vec::leak(chosen), &[], &[]);
        scenario.expects = &[];
    }
    if let Some(why) = scenario.refused(args.target) {
        return Err(why);
    }
    Ok(Asked {
        scenario,
        seed: args.seed,
        span: args.span,
        target: args.target,
        palisade: args.palisade.clone(),
        store: args.store.clone(),
        planted: std::env::var("PALISADE_PLANTED").ok(),
    })
}

fn planted_table(names: &[String], palisade: &Path, store: &Path) -> anyhow::Result<ExitCode> {
    let asked = |row: &&planted::Row| {
        names.is_empty() || names.iter().any(|name| row.bug == Some(name) || row.scenario == name)
    };
    let chosen: Vec<_> = planted::ALL.iter().filter(asked).collect();
    if chosen.is_empty() {
        eprintln!("jepsen-lite: no planted bug {names:?} in the table");
        return Ok(ExitCode::from(USAGE));
    }
    let mut missed = 0;
    for row in chosen {
        let scenario = Scenario::find(row.scenario).context("the table names scenarios")?;
        let asked = Asked {
            scenario,
            seed: 1,
            span: Duration::from_secs(row.within_s),
            target: Target::Local,
            palisade: palisade.to_owned(),
            store: store.to_owned(),
            planted: None,
        };
        let (became, took) = planted::play(row, &asked)?;
        let word = match &became {
            planted::Became::Caught(by) => format!("caught by {by}"),
            planted::Became::Skipped(why) => format!("SKIPPED planted-{}: {why}", row.bug.unwrap_or(row.scenario)),
            planted::Became::Missed(what) => {
                missed += 1;
                format!("NOT CAUGHT: {what}")
            }
        };
        let bug = row.bug.unwrap_or("(control)");
        say(format_args!("{bug:<32} {:<18} {:>4} s  {word}", row.scenario, took.as_secs()));
    }
    Ok(ExitCode::from(u8::from(missed > 0)))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let verdict = match cli.command {
        Command::List => {
            list();
            return ExitCode::SUCCESS;
        }
        Command::Nemeses => {
            nemeses_table();
            return ExitCode::SUCCESS;
        }
        Command::Run(args) => match asked(&args) {
            Ok(asked) => drive::run(&asked).and_then(|dir| judged(&dir)),
            Err(why) => {
                eprintln!("jepsen-lite: {why}");
                return ExitCode::from(USAGE);
            }
        },
        Command::Planted { names, palisade, store } => match planted_table(&names, &palisade, &store) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Control { of, seed, span, etcd, store } => {
            controls::run(of, seed, span, &etcd, &store).and_then(|dir| judged(&dir))
        }
        Command::Act { address } => act::act(&address).map(|()| Judged::default()),
        Command::Check { history, edn, budget } => {
            check(&history, edn.as_deref(), budget).map(|findings| Judged { findings, ..Judged::default() })
        }
        Command::Report { dir } => {
            return match report::write(&dir, Budget::default()) {
                Ok((path, verdict)) => {
                    say(format_args!("{}: {verdict}", path.display()));
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
        Ok(Judged { findings, failovers, report }) => {
            findings.iter().for_each(say);
            failovers.iter().for_each(say);
            let verdict = Verdict::of(&findings);
            say(format_args!("verdict: {verdict}"));
            if let Some(report) = report {
                say(format_args!("report: {}", report.display()));
            }
            ExitCode::from(verdict.code())
        }
        Err(error) => {
            eprintln!("jepsen-lite: the harness failed: {error:#}");
            ExitCode::from(HARNESS)
        }
    }
}

/// What is printed of a history.
#[derive(Default)]
struct Judged {
    findings: Vec<Finding>,
    /// How long failovers took; judges nothing.
    failovers: Vec<String>,
    report: Option<PathBuf>,
}

/// Judges a run that has just ended, and draws it.
fn judged(dir: &Path) -> anyhow::Result<Judged> {
    let path = dir.join(report::HISTORY);
    let history = history::read(&path).with_context(|| path.display().to_string())?;
    let findings = checkers::check(&history);
    // The verdict stands also where the page cannot be written.
    let page = report::write_judged(dir, &history, &findings);
    let page = page.inspect_err(|error| eprintln!("jepsen-lite: no report: {error}"));
    Ok(Judged { failovers: report::failovers(&history), report: page.ok(), findings })
}
