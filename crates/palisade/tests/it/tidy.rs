//! The shape of the workspace: who may import whom, where the dangerous dependencies are, what lies at the top level.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every edge between our packages that may exist (development dependencies are free: tests may look anywhere).
/// Imports point downwards only; crates of one line do not import each other.
const ALLOWED: &[(&str, &[&str])] = &[
    // 0: knows nothing; what it breaks imports it
    ("palisade-planted", &[]),
    // 0: knows nothing; whoever is asked writes what it counted to its page
    ("palisade-metrics", &[]),
    // 1: know nothing else of ours
    ("palisade-fence", &[]),
    ("palisade-world", &[]),
    ("palisade-storage", &["palisade-planted", "palisade-metrics"]),
    ("palisade-rpc-build", &[]),
    // 2, 3: pure
    ("palisade-coord-core", &["palisade-planted", "palisade-fence"]),
    ("palisade-liveness", &["palisade-planted", "palisade-coord-core"]),
    // 4
    ("palisade-wire", &["palisade-planted", "palisade-fence", "palisade-coord-core"]),
    // 5: none of these imports another
    (
        "palisade-replica",
        &["palisade-planted", "palisade-metrics", "palisade-wire", "palisade-storage", "palisade-world"],
    ),
    ("palisade-client", &["palisade-planted", "palisade-fence", "palisade-wire", "palisade-world"]),
    ("palisade-rpc", &["palisade-planted", "palisade-fence", "palisade-world"]),
    ("palisade-fence-tonic", &["palisade-fence"]),
    // 6
    (
        "palisade-server",
        &[
            "palisade-planted",
            "palisade-metrics",
            "palisade-fence",
            "palisade-coord-core",
            "palisade-liveness",
            "palisade-wire",
            "palisade-replica",
            "palisade-storage",
            "palisade-world",
        ],
    ),
    ("palisade-runtime", &["palisade-planted", "palisade-fence", "palisade-client", "palisade-rpc", "palisade-world"]),
    // 7
    (
        "palisade",
        &[
            "palisade-planted",
            "palisade-metrics",
            "palisade-fence",
            "palisade-world",
            "palisade-wire",
            "palisade-storage",
            "palisade-server",
            "palisade-client",
            "palisade-rpc",
            "palisade-runtime",
        ],
    ),
    (
        "palisade-sim",
        &[
            "palisade-planted",
            "palisade-fence",
            "palisade-world",
            "palisade-storage",
            "palisade-coord-core",
            "palisade-wire",
            "palisade-server",
            "palisade-client",
            "palisade-rpc",
            "palisade-runtime",
        ],
    ),
    // A checker shares no code with what it checks.
    ("jepsen-lite", &[]),
];

/// Dependencies that only these packages may have.
const CONFINED: &[(&str, &[&str])] = &[
    ("openraft", &["palisade-replica"]),
    ("openraft-rt", &["palisade-replica"]),
    ("sled", &["palisade-storage"]),
    ("turmoil", &["palisade-sim"]),
    ("anyhow", &["palisade", "palisade-sim", "jepsen-lite"]),
];

/// Packages that touch no clock, no socket, no file and no task: these are all the foreign dependencies that they may have.
const PURE: &[(&str, &[&str])] = &[
    ("palisade-planted", &[]),
    ("palisade-metrics", &[]),
    ("palisade-fence", &[]),
    ("palisade-coord-core", &[]),
    ("palisade-liveness", &[]),
];

/// Packages that are simulated whole: they touch files through `palisade_world::Files` only.
const WITHOUT_FILES: &[&str] = &["client", "rpc", "runtime"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

/// Names in `[dependencies]`, by package.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let root = root();
    let mut manifests: Vec<PathBuf> =
        std::fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path().join("Cargo.toml")).collect();
    manifests.push(root.join("jepsen-lite/Cargo.toml"));
    let parse = |path: PathBuf| {
        let table: toml::Table = std::fs::read_to_string(&path).ok()?.parse().expect("a manifest is TOML");
        let name = table["package"]["name"].as_str().expect("a package has a name").to_owned();
        let names = table.get("dependencies").and_then(|d| d.as_table()).map(|d| d.keys().cloned().collect());
        Some((name, names.unwrap_or_default()))
    };
    manifests.into_iter().filter_map(parse).collect()
}

#[test]
fn imports_point_downwards_only() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ALLOWED.iter().map(|(name, to)| (*name, to.iter().copied().collect::<BTreeSet<_>>())).collect();
    for (package, dependencies) in dependencies() {
        let allowed = allowed.get(package.as_str()).unwrap_or_else(|| panic!("{package} has no row in ALLOWED"));
        for ours in dependencies.iter().filter(|name| name.starts_with("palisade") || *name == "jepsen-lite") {
            assert!(
                allowed.contains(ours.as_str()),
                "{package} may not import {ours}: see ALLOWED and ARCHITECTURE.md"
            );
        }
    }
}

#[test]
fn each_row_lists_only_lower_rows() {
    let order: Vec<_> = ALLOWED.iter().map(|(name, _)| *name).collect();
    for (at, (name, to)) in ALLOWED.iter().enumerate() {
        for import in *to {
            let below = order.iter().position(|other| other == import).unwrap_or_else(|| panic!("{import} has no row"));
            assert!(below < at, "{name} may not import {import}, which stands above it");
        }
    }
}

#[test]
fn dangerous_dependencies_stay_where_they_are_tamed() {
    let dependencies = dependencies();
    for (dependency, homes) in CONFINED {
        for (package, names) in &dependencies {
            assert!(
                !names.contains(*dependency) || homes.contains(&package.as_str()),
                "{package} may not depend on {dependency}: only {homes:?} may"
            );
        }
    }
    for (package, foreign) in PURE {
        for name in &dependencies[*package] {
            assert!(
                name.starts_with("palisade-") || foreign.contains(&name.as_str()),
                "{package} is pure and may not depend on {name}"
            );
        }
    }
}

#[test]
fn every_dependency_is_declared_once_with_a_sentence() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = text.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let lines: Vec<_> = section.lines().filter(|line| !line.trim().is_empty()).collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.contains("path = ")) {
        assert!(lines[at - 1].starts_with("# ") && !lines[at - 1].contains("---"), "no sentence above: {line}");
    }
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let path = entry.unwrap().path().join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let manifest: toml::Table = text.parse().unwrap();
        for (name, value) in tables.iter().filter_map(|t| manifest.get(*t)?.as_table()).flatten() {
            let inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            assert!(inherited, "{}: {name} must be declared in [workspace.dependencies]", path.display());
        }
    }
}

#[test]
fn the_top_level_holds_what_was_agreed() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "README.md",
        "crates",
        "docker-compose.yml",
        "jepsen-lite",
        "proto",
        "target",
    ];
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || agreed.contains(&name.as_str()), "{name} does not belong at the top level");
    }
}

#[test]
fn every_file_says_what_it_is() {
    let mut files = sources(&root().join("crates"));
    files.extend(sources(&root().join("jepsen-lite")));
    assert!(files.len() > 20, "the walk found nothing to check");
    // Put together here, so that this file is no exception.
    let marks = [["to", "do!("], ["unimple", "mented!("], ["FIX", "ME"], ["#[ig", "nore"]].map(|parts| parts.concat());
    for (file, text) in files {
        assert!(text.starts_with("//!"), "{} does not start with //!: what it is, what it does not do", file.display());
        for mark in &marks {
            assert!(!text.contains(mark), "{} holds {mark}", file.display());
        }
    }
}

#[test]
fn what_is_simulated_whole_touches_files_through_the_world() {
    for package in WITHOUT_FILES {
        let files = sources(&root().join("crates").join(package).join("src"));
        assert!(files.len() > 5, "{package}: the walk found nothing to check");
        for (file, text) in files {
            // Unit tests may.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let found = ["std::fs", "tokio::fs"].into_iter().find(|door| text.contains(door));
            assert_eq!(found, None, "{} touches files by itself", file.display());
        }
    }
}

/// All Rust files below a folder, with their text.
fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
    files
}
