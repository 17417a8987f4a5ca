//! Stamps the commit that a program is built from, as `PALISADE_COMMIT`: only programs are stamped, so that a new commit builds
//! no library again. Never fails a build: without git it stays empty. The simulation's build script uses this file, too.

use std::path::Path;
use std::process::Command;

/// `root` is the folder of the checkout.
pub(crate) fn stamp(root: &Path) {
    println!("cargo::rerun-if-env-changed=PALISADE_COMMIT");
    // Without git there is nothing to follow; a path that is not there would build the program again each time.
    let moves = root.join(".git/logs/HEAD");
    if moves.exists() {
        println!("cargo::rerun-if-changed={}", moves.display());
    }
    let commit = std::env::var("PALISADE_COMMIT").ok().or_else(|| from_git(root)).unwrap_or_default();
    println!("cargo::rustc-env=PALISADE_COMMIT={}", commit.trim());
}

fn from_git(root: &Path) -> Option<String> {
    let asked = Command::new("git").arg("-C").arg(root).args(["rev-parse", "HEAD"]).output().ok()?;
    asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).trim().to_owned())
}
