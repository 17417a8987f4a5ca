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

use std::path::Path;
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

fn list() {
    for scenario in scenarios::ALL {
        let places = scenario.targets().join(", ");
        let places = if places.is_empty() { "nowhere on this machine" } else { &places };
        println!("{:<20} {} [{places}]", scenario.name, scenario.what);
    }
}

fn nemeses_table() {
    let cell = |works| match works {
        nemeses::Works::Yes => "yes".to_owned(),
        nemeses::Works::With(needs) => format!("with {needs}"),
        nemeses::Works::No => "no".to_owned(),
    };
    println!("| nemesis | what it does | sim | local | compose | namespaces |\n|---|---|---|---|---|---|");
    for nemesis in Nemesis::ALL {
        let [local, compose, namespaces] = Target::ALL.map(|target| cell(nemesis.works(target)));
        let sim = if nemesis.simulated() { "yes" } else { "no" };
        println!("| `{}` | {} | {sim} | {local} | {compose} | {namespaces} |", nemesis.name(), nemesis.what());
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
        println!("{:<32} {:<18} {:>4} s  {word}", row.bug.unwrap_or("(control)"), row.scenario, took.as_secs());
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
        Command::Act { address } => act::act(&address).map(|()| Vec::new()),
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

fn judged(dir: &Path) -> anyhow::Result<Vec<Finding>> {
    check(&dir.join("history.jsonl"), None, None)
}
