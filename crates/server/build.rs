//! Stamps the commit that this is built from, for `cluster status`. Never fails a build: without git it stays empty.

use std::path::Path;
use std::process::Command;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    println!("cargo::rerun-if-env-changed=PALISADE_COMMIT");
    let head = root.join(".git/logs/HEAD");
    if head.exists() {
        println!("cargo::rerun-if-changed={}", head.display());
    } else {
        println!("cargo::rerun-if-changed=build.rs");
    }
    let commit = std::env::var("PALISADE_COMMIT").ok().or_else(|| from_git(&root)).unwrap_or_default();
    println!("cargo::rustc-env=PALISADE_COMMIT={}", commit.trim());
}

fn from_git(root: &Path) -> Option<String> {
    let asked = Command::new("git").arg("-C").arg(root).args(["rev-parse", "HEAD"]).output().ok()?;
    asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).trim().to_owned())
}
