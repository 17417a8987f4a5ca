//! What was acknowledged is on the disks of a majority, and a node whose disk or folder is not what it was says so and stops.

use std::io::{BufRead, BufReader};
use std::path::Path;
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

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_copied_folder_is_refused_while_the_original_runs() {
    let cluster = Cluster::start();
    let copied = cluster.store_leader() % 3 + 1;
    let folder = cluster.dir.path().join("copy");
    copy(&cluster.data(copied), &folder);
    // As somebody does who sets a node up "like that one": the same id, its own place to listen.
    let elsewhere = &crate::harness::free_addresses(1)[0];
    let as_it_is_known = cluster.initial();
    let as_it_is_here = as_it_is_known.replace(&cluster.addresses[copied - 1], elsewhere);
    for initial in [as_it_is_known, as_it_is_here] {
        let output = palisade()
            .args(["server", "--id", &copied.to_string(), "--listen", elsewhere, "--data", folder.to_str().unwrap()])
            .args(["--initial", &initial])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(output.status), 1, "{said}");
        let words = said.lines().rfind(|line| line.starts_with("palisade: ")).unwrap_or_default();
        assert!(words.contains("a data folder was copied: another process with the same store"), "{said}");
        assert!(words.contains(&cluster.addresses[copied - 1]), "{said}");
    }
    assert_eq!(cluster.json(&["kv", "put", "k", "v"])["key"], "k", "the original goes on");
}

/// A cluster in which a follower was started on an older copy of its folder: the follower and the store leader.
fn with_an_older_copy(wrapper: &[&str]) -> (Cluster, usize, usize) {
    let mut cluster = Cluster::start_under(wrapper);
    let leader = cluster.store_leader();
    let (victim, older) = (leader % 3 + 1, cluster.dir.path().join("older"));
    cluster.nodes[victim - 1].kill();
    copy(&cluster.data(victim), &older);
    cluster.restart(victim);
    eventually("the node has acknowledged more than the copy holds", || {
        cluster.json(&["kv", "put", "later", "kept"]);
        let status = cluster.json(&["cluster", "status"]);
        let applied = |id: usize| status["nodes"].as_array()?.iter().find(|node| node["id"] == id)?["applied"].as_u64();
        (applied(victim)? + 1 >= applied(leader)?).then_some(())
    });
    cluster.nodes[victim - 1].kill();
    std::fs::remove_dir_all(cluster.data(victim)).unwrap();
    copy(&older, &cluster.data(victim));
    cluster.restart(victim);
    (cluster, victim, leader)
}

#[test]
fn an_older_copy_of_a_folder_is_refused_and_the_store_leader_goes_on() {
    let (mut cluster, victim, leader) = with_an_older_copy(&[]);
    assert_eq!(code(cluster.nodes[victim - 1].wait()), 1);
    let log = cluster.log(victim);
    let words = log.lines().rfind(|line| line.starts_with("palisade: ")).unwrap_or_default();
    assert!(words.contains("this node's store is lost: remove it and add it under a new id"), "{log}");
    assert!(words.contains("the data folder was replaced by an older copy"), "{log}");
    assert_eq!(cluster.json(&["kv", "get", "later"])["value"], "kept");
    assert_eq!(cluster.store_leader(), leader, "it was not disturbed: {}", cluster.log(leader));
}

/// Without the check the copy serves as if nothing were missing, or the store leader falls over it.
#[cfg(feature = "planted")]
#[test]
fn an_older_copy_that_counts_is_seen() {
    let (mut cluster, victim, leader) = with_an_older_copy(&["env", "PALISADE_PLANTED=older-copy-counts"]);
    eventually("the copy serves, or the store leader has ended", || {
        let served = palisade().args(["health", &cluster.addresses[victim - 1]]).output().unwrap().status.success();
        (served || cluster.nodes[leader - 1].0.try_wait().unwrap().is_some()).then_some(())
    });
    assert!(cluster.nodes[victim - 1].0.try_wait().unwrap().is_none(), "{}", cluster.log(victim));
}

#[test]
fn a_damaged_log_stops_the_node_with_advice_and_the_cluster_goes_on() {
    let mut cluster = Cluster::start();
    cluster.json(&["kv", "put", "k", "v"]);
    let victim = cluster.store_leader() % 3 + 1;
    cluster.nodes[victim - 1].kill();
    let log = cluster.data(victim).join("log/db");
    let mut bytes = std::fs::read(&log).unwrap();
    // The second half of what was written, one bit in each KiB: the tail, and what is before it.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (end / 2..end).step_by(1024) {
        bytes[at] ^= 1;
    }
    std::fs::write(log, bytes).unwrap();
    cluster.restart(victim);
    assert_eq!(code(cluster.nodes[victim - 1].wait()), 1);
    let log = cluster.log(victim);
    assert!(log.contains("this node's store is lost: remove it and add it under a new id"), "{log}");
    assert_eq!(cluster.json(&["kv", "get", "k"])["value"], "v");
}

/// Whether this process may trace others.
pub(crate) fn may_trace() -> bool {
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
        assert_eq!(
            log.lines().next_back(),
            Some(said),
            "what is behind it is of no use to whoever looks for the reason"
        );
        assert!(!log.contains("panicked"), "{log}");
        cluster.wait_until_serving();
        assert_eq!(cluster.json(&["kv", "get", "before"])["value"], "kept");
        cluster.restart(victim);
        eventually("the node serves again after a restart", || {
            palisade().args(["health", &cluster.addresses[victim - 1]]).output().unwrap().status.success().then_some(())
        });
    }
}
