//! Deliberately broken variants are not part of a default build.

use crate::harness::{code, palisade};

#[test]
fn a_default_build_does_not_know_planted_bugs() {
    let data = tempfile::tempdir().unwrap();
    // A build with the feature refuses the name before anything else; this one goes on and refuses what is not built yet.
    let output = palisade()
        .env("PALISADE_PLANTED", "no-such-bug")
        .args(["server", "--id", "1", "--join", "127.0.0.1:1", "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(output.status), 2, "{said}");
    assert!(said.contains("--join"), "{said}");
    assert!(!said.contains("PALISADE_PLANTED") && !said.contains("no-such-bug"), "{said}");
}
