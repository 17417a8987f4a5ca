//! One place names the fields of the logs: the table in the operator's page. No line of code uses another, and none of the table is
//! used by nobody.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../OPERATING.md");

/// Fields that the table names.
fn named() -> BTreeSet<String> {
    let logs = PAGE.split("\n## Logs\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = logs.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

/// What stands between the brackets of each line that is logged.
fn logged(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for level in ["tracing::error!(", "tracing::warn!(", "tracing::info!(", "tracing::debug!(", "tell!("] {
        for (at, _) in text.match_indices(level) {
            let inner = inside(&text[at + level.len()..]);
            // What decides the level comes first there.
            let inner = if level == "tell!(" { inner.split_once(',').map_or("", |(_, rest)| rest) } else { inner };
            // A macro that passes on what it was given.
            if !inner.contains('$') {
                found.push(inner.to_owned());
            }
        }
    }
    found
}

/// Up to the bracket that closes.
fn inside(text: &str) -> &str {
    let end = top_level(text).find(|(_, depth, _)| *depth < 0).map_or(text.len(), |(at, ..)| at);
    &text[..end]
}

/// Each character outside of text in quotes, with how deep in brackets it stands after it.
fn top_level(text: &str) -> impl Iterator<Item = (usize, i32, char)> + '_ {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    text.char_indices().filter_map(move |(at, c)| {
        if quoted {
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
            return None;
        }
        match c {
            '"' => quoted = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        Some((at, depth, c))
    })
}

/// The names of the fields of one line: what comes before its message.
fn fields(line: &str) -> Vec<String> {
    let commas = top_level(line).filter(|(_, depth, c)| *depth == 0 && *c == ',').map(|(at, ..)| at);
    let ends: Vec<usize> = commas.chain([line.len()]).collect();
    let mut begin = 0;
    let mut names = Vec::new();
    for end in ends {
        let part = line[begin..end].trim();
        begin = (end + 1).min(line.len());
        if part.starts_with('"') {
            break;
        }
        let name = part.trim_start_matches(['%', '?']);
        let name = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        if !name.is_empty() {
            names.push(name.to_owned());
        }
    }
    names
}

/// Rust files of what ships.
fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
}

#[test]
fn every_field_of_a_log_line_is_named_once_and_for_all() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(crates).unwrap().map(|entry| entry.unwrap().path()) {
        let shipped = entry.join("src").is_dir() && !entry.ends_with("sim") && !entry.ends_with("rpc-build");
        if shipped {
            sources(&entry.join("src"), &mut files);
        }
    }
    let named = named();
    let (mut used, mut lines, mut unnamed) = (BTreeSet::new(), 0, Vec::new());
    for file in files {
        for line in logged(&std::fs::read_to_string(&file).unwrap()) {
            lines += 1;
            for field in fields(&line) {
                if !named.contains(&field) {
                    unnamed.push(format!("{}: {field}", file.display()));
                }
                used.insert(field);
            }
        }
    }
    assert!(unnamed.is_empty(), "OPERATING.md does not name these fields of log lines: {unnamed:#?}");
    assert!(lines > 100, "the walk found nothing to check: {lines}");
    let unused: Vec<_> = named.difference(&used).collect();
    assert!(unused.is_empty(), "OPERATING.md names fields that nobody uses: {unused:?}");
}

#[test]
fn fields_are_found_in_all_their_forms() {
    let text = "tracing::info!(node = self.f(a, b), %cluster, ?why, seq, \"a, b {}\", other = 1);";
    let lines = logged(text);
    assert_eq!(lines.len(), 1);
    assert_eq!(fields(&lines[0]), ["node", "cluster", "why", "seq"]);
    assert_eq!(fields(&logged("tell!(leads, node, \"x\")")[0]), ["node"]);
}
