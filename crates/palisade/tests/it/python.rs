//! The example in Python against a cluster of real processes: another language needs nothing but the wire.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Candidate, Cluster};
use crate::skip::skip;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A Python that has what the example imports.
fn python() -> Option<String> {
    let named = std::env::var("PALISADE_PYTHON").ok();
    let installed = root().join("target/python/bin/python").display().to_string();
    let imports = |python: &String| {
        let tried = Command::new(python).args(["-c", "import grpc, grpc_status, grpc_tools"]).output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    named.into_iter().chain([installed, "python3".to_owned()]).find(imports)
}

#[test]
fn a_client_in_python_leads_writes_with_a_fence_and_regains_what_it_loses() {
    let Some(python) = python() else {
        return skip("a_client_in_python", "python", "no python3 with grpcio, grpcio-tools and grpcio-status");
    };
    let mut cluster = Cluster::start();
    let leader = cluster.store_leader();
    // It asks nodes that do not lead the store, and so depends on them.
    let others: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    let endpoints = others.iter().map(|id| cluster.addresses[id - 1].as_str()).collect::<Vec<_>>().join(",");
    let mut command = Command::new(python);
    command.arg(root().join("crates/palisade/examples/python/campaign.py")).arg(endpoints);
    command.args(["--election", "py", "--id", "py-1", "--every", "0.05"]);
    let example = Candidate::spawn(&mut command, cluster.dir.path());
    let first = example.next("elected")["token"].as_u64().unwrap();
    example.next("wrote");

    // Its leadership is taken from it, and it campaigns again: its old token is refused.
    cluster.json(&["elect", "resign", "py", "--token", &first.to_string()]);
    assert_eq!(example.next("lost")["token"].as_u64(), Some(first));
    let second = example.next("elected")["token"].as_u64().unwrap();
    assert!(second > first);
    let stale = example.next("stale");
    assert_eq!((stale["token"].as_u64(), stale["current"].as_u64()), (Some(first), Some(second)));
    example.next("wrote");

    // The node that serves it dies, and then the store leader: it keeps its leadership through both.
    cluster.nodes[others[0] - 1].kill();
    for _ in 0..3 {
        example.next("wrote");
    }
    cluster.restart(others[0]);
    cluster.wait_until_serving();
    cluster.nodes[leader - 1].kill();
    for _ in 0..3 {
        example.next("wrote");
    }
    let told = example.so_far();
    assert!(!told.iter().any(|event| event["event"] == "lost"), "{told:?}");
    let observed = cluster.json(&["elect", "leader", "py"]);
    assert_eq!(observed["token"].as_u64(), Some(second), "{observed}");
}
