//! The file that `--config` names: keys and their values, as they stand there. It knows no flag by name.
//!
//! Keys at the top are for every command that has such a flag; those in a table named like a command (`[server]`,
//! `[elect.run]`) are for that command alone, and win there.

use std::collections::BTreeMap;
use std::fmt;

use clap::{Arg, ArgAction, Command};
use toml::Value;

use super::key_of;

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) entries: Vec<Entry>,
}

/// For which commands a key is.
type Scope = Vec<String>;

/// One key.
#[derive(Debug)]
pub(super) struct Entry {
    /// The table that it stands in; empty: for all.
    scope: Scope,
    key: String,
    value: Value,
}

/// What is wrong with the file: where it says what, and what is allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mistake {
    pub(super) path: String,
    /// The key and its value; `None`: the file as a whole.
    pub(super) place: Option<(String, String)>,
    pub(super) why: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { path, place, why } = self;
        match place {
            Some((key, value)) => write!(f, "config '{path}': {key}: {value}: {why}"),
            None => write!(f, "config '{path}': {why}"),
        }
    }
}

impl File {
    pub(super) fn load(path: &str) -> Result<File, Mistake> {
        let whole = |why: String| Mistake { path: path.to_owned(), place: None, why };
        let text = std::fs::read_to_string(path).map_err(|error| whole(error.to_string()))?;
        File::parse(path, &text)
    }

    pub(super) fn parse(path: &str, text: &str) -> Result<File, Mistake> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| Mistake {
            path: path.to_owned(),
            place: None,
            why: error.to_string().trim_end().to_owned(),
        })?;
        let mut file = File { path: path.to_owned(), entries: Vec::new() };
        file.take(&[], table);
        Ok(file)
    }

    fn take(&mut self, scope: &[String], table: toml::Table) {
        if table.is_empty() && !scope.is_empty() {
            // Kept, so that a table for no command is found.
            self.entries.push(Entry { scope: scope.to_vec(), key: String::new(), value: Value::Boolean(false) });
        }
        for (key, value) in table {
            match value {
                Value::Table(inner) => self.take(&[scope, &[key]].concat(), inner),
                value => self.entries.push(Entry { scope: scope.to_vec(), key, value }),
            }
        }
    }

    /// Refuses keys and tables that mean nothing, whichever command is run.
    pub(super) fn check(&self, root: &Command) -> Result<(), Mistake> {
        for entry in &self.entries {
            let mut command = root;
            for (depth, name) in entry.scope.iter().enumerate() {
                command = command.find_subcommand(name).ok_or_else(|| {
                    let names = command.get_subcommands().map(Command::get_name);
                    let place = (entry.scope[..=depth].join("."), "a table".to_owned());
                    let why = format!("there is no such command{}", near(name, names));
                    Mistake { path: self.path.clone(), place: Some(place), why }
                })?;
            }
            if entry.key.is_empty() {
                continue;
            }
            if entry.key == "config" {
                return Err(self.mistake(entry, &entry.key, "a file cannot name another one".to_owned()));
            }
            let known = flags(root, command, &entry.scope);
            let Some(arg) = known.iter().find(|arg| key_of(arg) == Some(entry.key.as_str())) else {
                let near = near(&entry.key, known.iter().filter_map(|arg| key_of(arg)));
                let why = match entry.scope.as_slice() {
                    [] => format!("there is no such flag{near}"),
                    scope => format!("'palisade {}' has no such flag{near}", scope.join(" ")),
                };
                return Err(self.mistake(entry, &entry.key, why));
            };
            entry.text(arg).map_err(|why| self.mistake(entry, &entry.key, why))?;
        }
        Ok(())
    }

    /// What is said to a command, by key: its own tables win over the tables around them, those over the top.
    pub(super) fn for_command<'a>(&'a self, path: &[String]) -> impl Iterator<Item = (&'a str, &'a Entry)> + use<'a> {
        let mut found: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| path.starts_with(&entry.scope) && !entry.key.is_empty()) {
            let place = found.entry(&entry.key).or_insert(entry);
            if place.scope.len() < entry.scope.len() {
                *place = entry;
            }
        }
        found.into_iter()
    }

    pub(super) fn mistake(&self, entry: &Entry, key: &str, why: String) -> Mistake {
        let key = entry.scope.iter().map(String::as_str).chain([key]).collect::<Vec<_>>().join(".");
        Mistake { path: self.path.clone(), place: Some((key, format!("'{}'", shown(&entry.value)))), why }
    }
}

impl Entry {
    /// As it would be typed, or what is allowed instead.
    pub(super) fn text(&self, arg: &Arg) -> Result<String, String> {
        let text = match &self.value {
            Value::Array(values) => {
                if arg.get_value_delimiter().is_none() {
                    return Err("takes one value, not a list".to_owned());
                }
                values
                    .iter()
                    .map(|value| single(value).ok_or(value))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(wrong)?
                    .join(",")
            }
            value => single(value).ok_or_else(|| wrong(value))?,
        };
        if matches!(arg.get_action(), ArgAction::SetTrue) && !matches!(self.value, Value::Boolean(_)) {
            return Err("true or false".to_owned());
        }
        Ok(text)
    }
}

fn single(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

fn wrong(value: &Value) -> String {
    let (article, kind) = (if value.type_str() == "array" { "an" } else { "a" }, value.type_str());
    format!("{article} {kind} cannot be the value of a flag (text, a whole number, true or false, or a list of them)")
}

/// A value for people, shortened.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Array(values) => {
            let one = |value: &Value| single(value).unwrap_or_else(|| value.to_string());
            values.iter().map(one).collect::<Vec<_>>().join(",")
        }
        value => single(value).unwrap_or_else(|| value.to_string()),
    };
    match text.char_indices().nth(128) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The flags that a key may name: in a command's table those of it and of the commands below it, at the top those of all.
fn flags<'a>(root: &'a Command, command: &'a Command, scope: &[String]) -> Vec<&'a Arg> {
    fn below<'a>(command: &'a Command, found: &mut Vec<&'a Arg>) {
        found.extend(command.get_arguments());
        command.get_subcommands().for_each(|sub| below(sub, found));
    }
    let mut found = Vec::new();
    below(command, &mut found);
    if !scope.is_empty() {
        found.extend(root.get_arguments());
    }
    found
}

/// A name that was perhaps meant.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let close = known.map(|known| (distance(name, known), known)).min();
    match close {
        Some((distance, known)) if distance <= 2 && distance < known.len() => format!("; did you mean '{known}'?"),
        Some(_) | None => String::new(),
    }
}

/// Letters to add, drop or change.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, x) in a.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], at + 1);
        for (column, y) in b.iter().enumerate() {
            let change = before + usize::from(x != *y);
            before = row[column + 1];
            row[column + 1] = change.min(before + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}
