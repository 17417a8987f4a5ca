//! What was acknowledged is on the disks of a majority, and a node whose disk or folder is not what it was says so and stops.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::harness::{Cluster, Running, code, eventually, palisade};
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

/// Whether this process may trace others.
fn may_trace() -> bool {
    has("strace", "--version") && has("strace", "true")
}

/// From when this returns, the next sync of that process's log fails, once.
fn fail_next_sync(node: &Running) -> Running {
    let inject = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1", "-o", "/dev/null"];
    let mut command = Command::new("strace");
    command.args(["-f", "-p", &node.id().to_string()]).args(inject);
    let mut strace = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(strace.stderr.take().unwrap());
    let running = Running(strace);
    let attached = said.lines().map_while(Result::ok).find(|line| line.contains("attached"));
    assert!(attached.is_some(), "strace attaches");
    running
}

#[test]
fn a_node_whose_sync_fails_stops_and_says_why_and_the_cluster_goes_on() {
    if !may_trace() {
        let name = "a_node_whose_sync_fails_stops_and_says_why_and_the_cluster_goes_on";
        return skip(name, "strace", "strace is missing or may not trace");
    }
    let mut cluster = Cluster::start();
    cluster.json(&["kv", "put", "before", "kept"]);
    for leads in [false, true] {
        let leader = cluster.store_leader();
        let victim = if leads { leader } else { leader % 3 + 1 };
        let strace = fail_next_sync(&cluster.nodes[victim - 1]);
        let ended = eventually("a write is what the disk of the node fails at", || {
            cluster.run(&["kv", "put", "during", "1", "--timeout", "1s"]);
            cluster.nodes[victim - 1].0.try_wait().unwrap()
        });
        drop(strace);
        let log = cluster.log(victim);
        assert_eq!(code(ended), 1, "{log}");
        let said = log.lines().rfind(|line| line.starts_with("palisade: ")).unwrap_or_default();
        assert!(said.contains("the disk failed: fdatasync ") && said.contains("Input/output error"), "{said}");
        cluster.wait_until_serving();
        assert_eq!(cluster.json(&["kv", "get", "before"])["value"], "kept");
        cluster.restart(victim);
        eventually("the node serves again after a restart", || {
            palisade().args(["health", &cluster.addresses[victim - 1]]).output().unwrap().status.success().then_some(())
        });
    }
}
