//! Where a flag's value comes from: the command line, then the environment, then the file given with `--config`.
//!
//! Every flag `--some-flag` has the environment variable `PALISADE_SOME_FLAG` and the TOML key `some-flag`, without a line
//! of code per flag: both are attached to clap's definition before it parses.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, FromArgMatches};

use crate::cli::Cli;
use crate::exit;

/// Parses the command line. On a usage error, `--help` or `--version` the text has been printed and the code is returned.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let args: Vec<OsString> = args.collect();
    let file = match config_path(&args).map(|path| load(&path)).transpose() {
        Ok(file) => file.unwrap_or_default(),
        Err(message) => {
            eprintln!("palisade: {message}");
            return Err(ExitCode::from(exit::USAGE));
        }
    };
    let known = known_flags(&Cli::command());
    if let Some(key) = file.keys().find(|key| !known.contains(key)) {
        eprintln!("palisade: config: '{key}': no such flag (the keys are the long flags without the dashes)");
        return Err(ExitCode::from(exit::USAGE));
    }
    let command = attach(Cli::command(), &file);
    command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| {
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 })
    })
}

/// Writes a completion script for a shell to stdout.
pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "palisade", &mut std::io::stdout());
}

fn known_flags(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(known_flags)).collect()
}

fn attach(command: clap::Command, file: &BTreeMap<String, String>) -> clap::Command {
    command
        .mut_args(|arg| {
            let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
            if matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) || long == "config" {
                return arg;
            }
            let arg = if arg.get_env().is_some() {
                arg
            } else {
                arg.env(format!("PALISADE_{}", long.to_uppercase().replace('-', "_"))).hide_env(true)
            };
            match file.get(&long) {
                Some(value) => arg.default_value(value.clone()).required(false),
                None => arg,
            }
        })
        .mut_subcommands(|sub| attach(sub, file))
}

fn config_path(args: &[OsString]) -> Option<String> {
    let mut args = args.iter().skip(1).map(|arg| arg.to_string_lossy()).take_while(|arg| arg != "--");
    while let Some(arg) = args.next() {
        if let Some(path) = arg.strip_prefix("--config=") {
            return Some(path.to_owned());
        }
        if arg == "--config" {
            return args.next().map(|path| path.into_owned());
        }
    }
    std::env::var("PALISADE_CONFIG").ok()
}

fn load(path: &str) -> Result<BTreeMap<String, String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("config: '{path}': {error}"))?;
    let table: toml::Table = text.parse().map_err(|error| format!("config: '{path}': {error}"))?;
    table
        .into_iter()
        .map(|(key, value)| match value {
            toml::Value::String(text) => Ok((key, text)),
            toml::Value::Integer(number) => Ok((key, number.to_string())),
            toml::Value::Boolean(yes) => Ok((key, yes.to_string())),
            other => Err(format!(
                "config: '{key}': a {} cannot be the value of a flag (expected text, a number, true or false)",
                other.type_str()
            )),
        })
        .collect()
}
