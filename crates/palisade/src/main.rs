//! `palisade`: the one binary. Parses the command line, sets up logs and the world, and calls one function per command.
//!
//! What it keeps true: tables for people and JSON for programs go to stdout, everything else to stderr; the exit code says
//! what is known (see [`exit`]).

mod backup;
mod bench;
mod build_info;
mod cli;
mod cluster;
mod demo;
mod elect;
mod exit;
mod health;
mod interrupt;
mod job;
mod kv;
mod ops;
mod output;
mod processes;
mod server;
mod session;
mod settings;
mod units;
mod workers;

use std::process::ExitCode;

use palisade_world::World;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = match settings::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    #[cfg(feature = "planted")]
    if let Err(failure) = plant() {
        return failure.report(cli.global.output);
    }
    // The guardian must stay small and must not depend on a runtime that could stall.
    if let Command::Guardian(args) = &cli.command {
        return elect::guardian::run(args);
    }
    init_logs(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("palisade: the runtime could not be started: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    let output = cli.global.output;
    let done = runtime.block_on(run(cli, World::real()));
    // Background tasks may sit in a blocking call (name look-up): do not wait for them.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(output),
    }
}

/// Only in builds that prove the checks: switches on the bug that the environment names, in whichever process this is.
#[cfg(feature = "planted")]
fn plant() -> Result<(), exit::Failure> {
    let Ok(name) = std::env::var("PALISADE_PLANTED") else { return Ok(()) };
    let bug = name.parse().map_err(|known: String| exit::Failure::usage("PALISADE_PLANTED", name.clone(), known))?;
    palisade_planted::choose_in_process(bug);
    eprintln!("palisade: warning: this process is deliberately broken: {name}: {}", bug.wrong());
    Ok(())
}

async fn run(cli: Cli, world: World) -> Result<(), exit::Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Server(args) => server::run(args, world).await,
        Command::Health(args) => health::run(args, global, world).await,
        Command::Elect(command) => elect::run(command, global, world).await,
        Command::Session(command) => session::run(command, global, world).await,
        Command::Kv(command) => kv::run(command, global, world).await,
        Command::Cluster(command) => cluster::run(command, global, world).await,
        Command::Jobmanager(args) => workers::jobmanager(args, global, world).await,
        Command::Taskexecutor(args) => workers::taskexecutor(args, global, world).await,
        Command::Job(command) => job::run(command, global, world).await,
        Command::Demo(args) => demo::run(args, global, world).await,
        Command::Bench(command) => bench::run(command, global, world).await,
        Command::Completions { shell } => {
            settings::completions(shell);
            Ok(())
        }
        Command::Guardian(_) => unreachable!("handled before the runtime starts"),
    }
}

/// Logs go to stderr: text for people, JSON with `--log-format json`; `--log` says which.
fn init_logs(cli: &Cli) {
    use tracing_subscriber::layer::{Layer, SubscriberExt};
    use tracing_subscriber::util::SubscriberInitExt;
    let speaks = matches!(cli.command, Command::Server(_) | Command::Jobmanager(_) | Command::Taskexecutor(_));
    let default = Targets::new().with_target("openraft", LevelFilter::ERROR);
    let default = default.with_default(if speaks { LevelFilter::INFO } else { LevelFilter::ERROR });
    let filter = cli.global.log.clone().unwrap_or(default);
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    let layer = match cli.global.log_format {
        cli::LogFormat::Text => layer.with_target(false).boxed(),
        cli::LogFormat::Json => layer.json().boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}
