//! What was acknowledged is on the disks of a majority.

use crate::harness::Cluster;
use crate::skip::{has, skip};

#[test]
fn acknowledged_writes_survive_kill_nine_of_all_nodes() {
    let mut cluster = Cluster::start();
    for round in 0..3 {
        for n in 0..5 {
            cluster.json(&["kv", "put", &format!("{round}/{n}"), "v"]);
        }
        for node in &mut cluster.nodes {
            node.kill();
        }
        for id in 1..=3 {
            cluster.restart(id);
        }
        cluster.wait_until_serving();
        for n in 0..5 {
            assert_eq!(cluster.json(&["kv", "get", &format!("{round}/{n}")])["value"], "v");
        }
    }
}

/// One line of `strace -ttt`.
fn seconds(line: &str) -> Option<f64> {
    line.split_whitespace().find_map(|word| word.parse().ok().filter(|at| *at > 1e9))
}

#[test]
fn a_majority_calls_fdatasync_before_a_write_is_acknowledged() {
    if !has("strace", "--version") || !has("strace", "true") {
        return skip(
            "a_majority_calls_fdatasync_before_a_write_is_acknowledged",
            "strace",
            "strace is missing or may not trace",
        );
    }
    // -D: the node itself is our child, so that killing it leaves nothing behind.
    let cluster = Cluster::start_under(&["strace", "-D", "-f", "-ttt", "-e", "trace=fdatasync", "-o", "{}.strace"]);
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for n in 0..5 {
        let began = now();
        cluster.json(&["kv", "put", "synced", &n.to_string()]);
        let acknowledged = now();
        let synced = (1..=3).filter(|id| {
            let trace = std::fs::read_to_string(cluster.dir.path().join(format!("{id}.strace"))).unwrap();
            // A call that was interrupted in the trace is finished on a line of its own, "resumed", with its own time.
            let done = |line: &str| line.contains("fdatasync") && line.trim_end().ends_with("= 0");
            trace.lines().filter(|line| done(line)).filter_map(seconds).any(|at| began <= at && at <= acknowledged)
        });
        let synced = synced.count();
        assert!(synced >= 2, "only {synced} nodes had synced when write {n} was acknowledged");
    }
}
