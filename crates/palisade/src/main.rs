//! `palisade`: the one binary. Parses the command line, sets up logs and the world, and calls one function per command.
//!
//! What it keeps true: tables for people and JSON for programs go to stdout, everything else to stderr; the exit code says
//! what is known (see [`exit`]).

mod bench;
mod cli;
mod cluster;
mod demo;
mod elect;
mod exit;
mod health;
mod job;
mod kv;
mod output;
mod processes;
mod server;
mod session;
mod settings;
mod units;
mod workers;

use std::process::ExitCode;

use palisade_world::World;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = match settings::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
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

/// Logs go to stderr: text for people, JSON with `--log-format json`; `--log` takes the usual filter syntax.
fn init_logs(cli: &Cli) {
    use tracing_subscriber::EnvFilter;
    let quiet = !matches!(cli.command, Command::Server(_) | Command::Jobmanager(_) | Command::Taskexecutor(_));
    let default = if quiet { "error" } else { "info,openraft=error" };
    let filter = cli.global.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(default));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    match cli.global.log_format {
        cli::LogFormat::Text => builder.with_target(false).init(),
        cli::LogFormat::Json => builder.json().init(),
    }
}
