//! Deliberately broken variants are not part of a release: `PALISADE_RELEASE` names the one to look at; without it, it is the
//! program that was built with these tests, if that was built without the feature.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::code;
use crate::skip::skip;

const WITHOUT: &str = "this build has the feature `planted`; PALISADE_RELEASE names none (`.ci/run image containers`)";

fn release() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PALISADE_RELEASE") {
        return Some(named.into());
    }
    (!cfg!(feature = "planted")).then(|| env!("CARGO_BIN_EXE_palisade").into())
}

#[test]
fn no_planted_bug_has_a_name_in_the_binary() {
    let Some(release) = release() else {
        return skip("no_planted_bug_has_a_name_in_the_binary", "release", WITHOUT);
    };
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../planted/src/bug.rs");
    let list = std::fs::read_to_string(list).unwrap();
    let names: Vec<_> = list.lines().filter_map(|line| line.split_once(" = \"")?.1.strip_suffix("\",")).collect();
    assert!(names.contains(&"grant-twice"), "{names:?}");
    let binary = std::fs::read(release).unwrap();
    // Literals stand side by side in a binary, so a name may be a part of what looks like one word.
    let words = binary.split(|byte| !(byte.is_ascii_lowercase() || *byte == b'-')).filter(|word| word.contains(&b'-'));
    let words: Vec<_> = words.filter_map(|word| std::str::from_utf8(word).ok()).collect();
    let holds = |name: &str| words.iter().any(|word| word.contains(name));
    assert!(holds("release-after"), "the search finds nothing at all");
    let held: Vec<_> = names.into_iter().filter(|name| holds(name)).collect();
    assert!(held.is_empty(), "{held:?}");
}

#[test]
fn a_default_build_does_not_know_planted_bugs() {
    let Some(release) = release() else {
        return skip("a_default_build_does_not_know_planted_bugs", "release", WITHOUT);
    };
    // A build with the feature refuses the name before anything else; this one goes on, and finds nobody there.
    let output =
        Command::new(release).env("PALISADE_PLANTED", "no-such-bug").args(["health", "127.0.0.1:1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(output.status), 1, "{said}");
    assert!(!said.contains("PALISADE_PLANTED") && !said.contains("no-such-bug"), "{said}");
}
