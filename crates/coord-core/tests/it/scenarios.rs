//! Runs every `testdata/*.txt`. A file is one scenario: blocks of prose (`#`), directives, `----` and the expected trace up
//! to an empty line; the state goes on from block to block. `PALISADE_REWRITE=1` writes the traces anew: read them by eye.

use std::fs;
use std::path::{Path, PathBuf};

use palisade_coord_core::State;

use crate::scenario;

#[test]
fn every_scenario_has_its_expected_trace() {
    let rewrite = std::env::var_os("PALISADE_REWRITE").is_some_and(|value| value == "1");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 15, "the scenarios are in {}", folder.display());

    let mut wrong = Vec::new();
    for file in files {
        let expected = fs::read_to_string(&file).unwrap();
        let found = replay(&expected);
        if found == expected {
            continue;
        }
        if rewrite {
            fs::write(&file, found).unwrap();
        } else {
            wrong.push(format!("{}:\n{}", file.display(), first_difference(&expected, &found)));
        }
    }
    assert!(wrong.is_empty(), "{}\n(PALISADE_REWRITE=1 writes the traces anew)", wrong.join("\n"));
}

/// One of them, for whoever plants a bug.
#[cfg(feature = "planted")]
pub(crate) fn has_its_expected_trace(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/{name}.txt"));
    let expected = fs::read_to_string(file).unwrap();
    let found = replay(&expected);
    assert!(found == expected, "{name}:\n{}", first_difference(&expected, &found));
}

/// The file with the traces as they are.
fn replay(text: &str) -> String {
    let mut state = State::new();
    let mut blocks = Vec::new();
    for block in text.trim_end().split("\n\n") {
        let (asked, _) = block.split_once("\n----").unwrap_or((block, ""));
        let directives: Vec<&str> = asked.lines().filter(|line| !line.starts_with('#')).collect();
        if directives.is_empty() {
            blocks.push(block.to_owned());
        } else {
            let trace = scenario::run(&mut state, &directives.join("\n"));
            blocks.push(format!("{asked}\n----\n{}", trace.trim_end()));
        }
    }
    format!("{}\n", blocks.join("\n\n"))
}

fn first_difference(expected: &str, found: &str) -> String {
    let differs = expected.lines().zip(found.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or_else(|| expected.lines().count().min(found.lines().count()));
    let at = |text: &str| text.lines().nth(line).unwrap_or("(end of file)").to_owned();
    format!("  line {}\n  expected: {}\n  found:    {}", line + 1, at(expected), at(found))
}
