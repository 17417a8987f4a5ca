//! Where a flag's value comes from: the command line, then the environment, then the file given with `--config`.
//!
//! Every flag `--some-flag` has the environment variable `PALISADE_SOME_FLAG` and the TOML key `some-flag`, without a line
//! of code per flag. What the file says is put on the command line where neither that nor the environment says anything, so
//! that the file is checked by the same rules as what a person types.
//!
//! Keeps true: a mistake in the file is refused before anything is started, with the file, the key, the value and what is
//! allowed; a key that does nothing is a mistake.

mod file;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

use self::file::{Entry, File, Mistake};
use crate::cli::Cli;
use crate::exit;

/// Which flags came from which file, for whoever refuses one of them later.
static FROM_FILE: OnceLock<(String, Vec<String>)> = OnceLock::new();

/// Parses the command line. On a usage error, `--help` or `--version` the text has been printed and the code is returned.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let args: Vec<OsString> = args.collect();
    let command = with_environment(Cli::command());
    let refuse = |mistake: &dyn std::fmt::Display| {
        eprintln!("palisade: {mistake}");
        ExitCode::from(exit::USAGE)
    };
    let file = match config_path(&args).map(|path| File::load(&path)).transpose() {
        Ok(file) => file.unwrap_or_default(),
        Err(mistake) => return Err(refuse(&mistake)),
    };
    let merged = match merge(&command, &args, &file) {
        Ok(merged) => merged,
        Err(mistake) => return Err(refuse(&mistake)),
    };
    let Merged { args, keys } = merged;
    let parsed = command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = parsed.map_err(|error| match blame(&error, &file, &keys) {
        Some(mistake) => refuse(&mistake),
        None => {
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 })
        }
    })?;
    let keys = keys.into_keys().collect();
    let _ = FROM_FILE.set((file.path.clone(), keys)); // nobody parses twice
    Ok(cli)
}

/// How a person finds a flag that is refused: `--min-ttl`, or where the file says it.
pub(crate) fn origin(flag: &str) -> String {
    let key = flag.strip_prefix("--").unwrap_or(flag);
    match FROM_FILE.get() {
        Some((path, keys)) if keys.iter().any(|it| it == key) => format!("config '{path}': {key}"),
        Some(_) | None => flag.to_owned(),
    }
}

/// Writes a completion script for a shell to stdout.
pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "palisade", &mut std::io::stdout());
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

/// The name of a flag in the file, if it can be there.
fn key_of(arg: &Arg) -> Option<&str> {
    let is_setting =
        !matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpLong | ArgAction::HelpShort | ArgAction::Version);
    arg.get_long().filter(|long| is_setting && *long != "config")
}

/// Gives each flag its environment variable.
fn with_environment(command: Command) -> Command {
    command
        .mut_args(|arg| match key_of(&arg).map(str::to_owned) {
            Some(long) if arg.get_env().is_none() => {
                arg.env(format!("PALISADE_{}", long.to_uppercase().replace('-', "_"))).hide_env(true)
            }
            Some(_) | None => arg,
        })
        .mut_subcommands(with_environment)
}

/// The command line with what the file adds.
struct Merged<'a> {
    args: Vec<OsString>,
    /// What came from the file, by key.
    keys: Keys<'a>,
}

type Keys<'a> = BTreeMap<String, &'a Entry>;

/// Adds what the file says and nobody else does.
fn merge<'a>(command: &Command, args: &[OsString], file: &'a File) -> Result<Merged<'a>, Mistake> {
    file.check(command)?;
    let nothing = || Merged { args: args.to_vec(), keys: BTreeMap::new() };
    if file.entries.is_empty() {
        return Ok(nothing());
    }
    // What is said without the file. Mistakes of the command line are found when it is parsed in earnest.
    let lenient = all_optional(command.clone()).ignore_errors(true);
    let Ok(matches) = lenient.try_get_matches_from(args) else { return Ok(nothing()) };
    let Some(leaf) = Leaf::find(command, &matches) else { return Ok(nothing()) };
    let mut keys = BTreeMap::new();
    let mut added: Vec<OsString> = Vec::new();
    for (key, entry) in file.for_command(&leaf.path) {
        let Some(arg) = leaf.args.iter().find(|arg| key_of(arg) == Some(key)) else { continue };
        let value = entry.text(arg).map_err(|why| file.mistake(entry, key, why))?;
        if leaf.says(arg) || leaf.says_otherwise(arg) {
            continue;
        }
        match (arg.get_action(), value.as_str()) {
            (ArgAction::SetTrue, "true") => added.push(format!("--{key}").into()),
            (ArgAction::SetTrue, _) => {}
            _ => added.push(format!("--{key}={value}").into()),
        }
        keys.insert(key.to_owned(), entry);
    }
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let args = args[..end].iter().cloned().chain(added).chain(args[end..].iter().cloned()).collect();
    Ok(Merged { args, keys })
}

/// So that a look at the command line does not stop where the file has what is missing.
fn all_optional(command: Command) -> Command {
    let command = command.mut_args(|arg| if arg.is_positional() { arg } else { arg.required(false) });
    command.subcommand_required(false).arg_required_else_help(false).mut_subcommands(all_optional)
}

/// The command that is run.
struct Leaf<'a> {
    /// Its name, as it is typed after the program's.
    path: Vec<String>,
    command: &'a Command,
    /// Its flags, those of the program included.
    args: Vec<&'a Arg>,
    /// What was said, from the program to the command.
    matches: Vec<&'a ArgMatches>,
}

impl<'a> Leaf<'a> {
    /// `None`: no command was given.
    fn find(command: &'a Command, matches: &'a ArgMatches) -> Option<Leaf<'a>> {
        let args = command.get_arguments().collect();
        let mut leaf = Leaf { path: Vec::new(), command, args, matches: vec![matches] };
        let (mut command, mut matches) = (command, matches);
        while let Some((name, below)) = matches.subcommand() {
            (command, matches) = (command.find_subcommand(name)?, below);
            leaf.path.push(name.to_owned());
            leaf.command = command;
            leaf.args.extend(command.get_arguments());
            leaf.matches.push(matches);
        }
        (!leaf.path.is_empty()).then_some(leaf)
    }

    /// Whether the command line or the environment says something that excludes a flag: then that wins. A file that all nodes
    /// share names the first ones, and whoever joins says so.
    fn says_otherwise(&self, arg: &Arg) -> bool {
        let own = |it: &Arg| self.command.get_arguments().any(|own| own.get_id() == it.get_id());
        let excludes =
            |a: &Arg, b: &Arg| self.command.get_arg_conflicts_with(a).iter().any(|other| other.get_id() == b.get_id());
        let mut others = self.args.iter().filter(|it| own(it) && it.get_id() != arg.get_id() && self.says(it));
        own(arg) && others.any(|other| excludes(arg, other) || excludes(other, arg))
    }

    /// Whether the command line or the environment says something about a flag.
    fn says(&self, arg: &Arg) -> bool {
        self.matches.iter().any(|matches| {
            // A flag of another level is unknown here.
            let source = matches
                .try_contains_id(arg.get_id().as_str())
                .is_ok()
                .then(|| matches.value_source(arg.get_id().as_str()));
            matches!(source.flatten(), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        })
    }
}

/// What is wrong with the file, if the command line is wrong because of it.
fn blame(error: &clap::Error, file: &File, keys: &Keys<'_>) -> Option<Mistake> {
    let flags = [ContextKind::InvalidArg, ContextKind::PriorArg].into_iter().filter_map(|kind| error.get(kind));
    let named: Vec<&str> = flags
        .flat_map(|value| match value {
            ContextValue::String(text) => vec![text.as_str()],
            ContextValue::Strings(texts) => texts.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        })
        .filter_map(|flag| flag.strip_prefix("--")?.split([' ', '=', '[']).next())
        .collect();
    let (key, entry) = named.iter().find_map(|flag| keys.get_key_value(*flag))?;
    let why = match error.kind() {
        ErrorKind::ArgumentConflict => {
            let other = named.iter().find(|flag| **flag != key).copied().unwrap_or("another flag");
            format!("cannot be used together with '{other}'")
        }
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) => format!("expected one of: {}", values.join(", ")),
            _ => "needs a value".to_owned(),
        },
        _ => std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string),
    };
    Some(file.mistake(entry, key, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<File, Mistake> {
        File::parse("f.toml", text)
    }

    /// The command line after the file, or what is wrong.
    fn run(text: &str, args: &[&str]) -> Result<Vec<String>, String> {
        let command = with_environment(Cli::command());
        let args: Vec<OsString> = std::iter::once("palisade").chain(args.iter().copied()).map(OsString::from).collect();
        let file = file(text).map_err(|mistake| mistake.to_string())?;
        let Merged { args, keys } = merge(&command, &args, &file).map_err(|mistake| mistake.to_string())?;
        let parsed = command.try_get_matches_from(args.clone());
        match parsed {
            Ok(_) => Ok(args.into_iter().skip(1).map(|arg| arg.into_string().unwrap()).collect()),
            Err(error) => match blame(&error, &file, &keys) {
                Some(mistake) => Err(mistake.to_string()),
                None => Err(error.to_string()),
            },
        }
    }

    const TE: [&str; 7] = ["taskexecutor", "--id", "te", "--storage", "s", "--data", "d"];

    #[test]
    fn the_file_fills_in_what_the_command_line_does_not_say() {
        let text = "endpoints = ['a:1', 'b:2']\nslots = 4\n[taskexecutor]\nid = 'te-9'\n[server]\nid = 7\n";
        let merged = run(text, &TE).unwrap();
        assert!(
            merged.contains(&"--slots=4".to_owned()) && merged.contains(&"--endpoints=a:1,b:2".to_owned()),
            "{merged:?}"
        );
        assert!(!merged.iter().any(|arg| arg.starts_with("--id=")), "the command line wins: {merged:?}");
        let merged = run(text, &["taskexecutor", "--storage", "s", "--data", "d"]).unwrap();
        assert!(merged.contains(&"--id=te-9".to_owned()), "its own table, and no other: {merged:?}");
    }

    #[test]
    fn what_follows_two_dashes_stays_last_and_is_not_read() {
        let merged = run("ttl = '2s'", &["elect", "run", "e", "--", "x", "--ttl", "9s"]).unwrap();
        assert_eq!(merged, ["elect", "run", "e", "--ttl=2s", "--", "x", "--ttl", "9s"]);
    }

    #[test]
    fn a_switch_is_given_or_not() {
        let wait = |text| run(text, &["job", "submit", "f"]).map(|args| args.contains(&"--wait".to_owned()));
        assert_eq!(wait("wait = true"), Ok(true));
        assert_eq!(wait("wait = false"), Ok(false));
        assert_eq!(wait("wait = 'yes'").unwrap_err(), "config 'f.toml': wait: 'yes': true or false");
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_a_near_one_is_named() {
        let error = run("slot = 3", &TE).unwrap_err();
        assert_eq!(error, "config 'f.toml': slot: '3': there is no such flag; did you mean 'slots'?");
        let error = run("[taskexecutor]\njoin = 'a:1'", &TE).unwrap_err();
        assert_eq!(error, "config 'f.toml': taskexecutor.join: 'a:1': 'palisade taskexecutor' has no such flag");
        let error = run("[task-executor]\nslots = 1", &TE).unwrap_err();
        assert_eq!(
            error,
            "config 'f.toml': task-executor: a table: there is no such command; did you mean 'taskexecutor'?"
        );
        let error = run("config = 'g.toml'", &TE).unwrap_err();
        assert_eq!(error, "config 'f.toml': config: 'g.toml': a file cannot name another one");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused() {
        let error = |text| run(text, &TE).unwrap_err();
        assert_eq!(error("slots = 'two'"), "config 'f.toml': slots: 'two': invalid digit found in string");
        assert_eq!(
            error("slots = 1.5"),
            "config 'f.toml': slots: '1.5': a float cannot be the value of a flag (text, a whole number, true or false, or a list of them)"
        );
        assert_eq!(error("slots = [1, 2]"), "config 'f.toml': slots: '1,2': takes one value, not a list");
        assert_eq!(
            error("endpoints = [['a']]"),
            "config 'f.toml': endpoints: '[\"a\"]': an array cannot be the value of a flag (text, a whole number, true or false, or a list of them)"
        );
        assert_eq!(error("log-format = 'xml'"), "config 'f.toml': log-format: 'xml': expected one of: text, json");
    }

    #[test]
    fn a_value_out_of_range_is_refused() {
        let error = run("slots = -1", &TE).unwrap_err();
        assert!(error.starts_with("config 'f.toml': slots: '-1': "), "{error}");
        let error = run("timeout = '5 parsecs'", &TE).unwrap_err();
        assert!(error.starts_with("config 'f.toml': timeout: '5 parsecs': "), "{error}");
    }

    #[test]
    fn a_mistake_is_refused_also_where_somebody_else_wins() {
        let error = run("slots = 1.5", &["taskexecutor", "--slots", "2", "--id", "a", "--storage", "s", "--data", "d"]);
        assert!(error.unwrap_err().starts_with("config 'f.toml': slots: '1.5': a float"));
    }

    #[test]
    fn a_contradiction_is_refused() {
        let server = ["server", "--id", "1", "--data", "d"];
        let error = run("join = 'a:1'\ninitial = ['1=a:1']", &server).unwrap_err();
        assert!(
            error == "config 'f.toml': join: 'a:1': cannot be used together with 'initial'"
                || error == "config 'f.toml': initial: '1=a:1': cannot be used together with 'join'",
            "{error}"
        );
        let merged = run("join = 'a:1'", &[&server[..], &["--initial", "1=a:1"]].concat()).unwrap();
        assert!(!merged.iter().any(|arg| arg.starts_with("--join")), "the command line wins: {merged:?}");
        assert!(run("initial = ['1=a:1', '2=b:1']", &server).is_ok(), "the file has what the command needs");
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        let error = |text| file(text).err().map(|mistake| mistake.to_string()).unwrap_or_default();
        assert!(error("slots = ").contains("f.toml") && error("slots = ").contains("line 1"), "{}", error("slots = "));
        assert!(error("slots = 1\nslots = 2").contains("duplicate key"), "{}", error("slots = 1\nslots = 2"));
        let missing = File::load("/nowhere/f.toml").err().map(|mistake| mistake.to_string()).unwrap_or_default();
        assert!(missing.starts_with("config '/nowhere/f.toml': "), "{missing}");
    }

    #[test]
    fn every_flag_of_every_command_can_stand_in_a_file() {
        /// The words of a command, and its keys with a value for each.
        type Leaf = (Vec<String>, Vec<(String, &'static str)>);
        fn leaves(command: &Command, path: &[String], found: &mut Vec<Leaf>) {
            for sub in command.get_subcommands() {
                let path = [path, &[sub.get_name().to_owned()]].concat();
                let value = |arg: &Arg| if matches!(arg.get_action(), ArgAction::SetTrue) { "true" } else { "'1'" };
                let with_value = |arg| key_of(arg).map(|key| (key.to_owned(), value(arg)));
                let keys = sub.get_arguments().filter_map(with_value).collect();
                found.push((path.clone(), keys));
                leaves(sub, &path, found);
            }
        }
        let command = with_environment(Cli::command());
        let mut found = Vec::new();
        leaves(&command, &[], &mut found);
        let mut flags = 0;
        for (path, keys) in found {
            for (key, value) in keys {
                flags += 1;
                let text = format!("[{}]\n{key} = {value}\n", path.join("."));
                let file = file(&text).unwrap();
                assert!(file.check(&command).is_ok(), "{path:?}: {key}");
                assert_eq!(file.for_command(&path).map(|(key, _)| key.to_owned()).collect::<Vec<_>>(), [key]);
            }
        }
        assert!(flags > 60, "{flags}");
    }
}
