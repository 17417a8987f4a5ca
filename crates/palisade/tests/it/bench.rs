//! What `palisade bench` prints: figures with what they were measured on. How good they are is not judged here.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Running, code, eventually, palisade};

fn measured(args: &[&str]) -> Value {
    let output = palisade().arg("bench").args(args).args(["--output", "json"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {stderr}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let typed = format!("palisade bench {} --output json", args.join(" "));
    assert_eq!(document["command"], typed);
    for field in ["version", "commit"] {
        assert!(document[field].is_string(), "{field}: {document}");
    }
    for field in ["cpu", "cores", "memory_mb", "kernel", "load_before", "load_after"] {
        assert!(!document["machine"][field].is_null(), "{field}: {document}");
    }
    document
}

fn is_latencies(figures: &Value, at_least: u64) {
    assert!(figures["count"].as_u64().unwrap() >= at_least, "{figures}");
    let at = |quantile: &str| figures[quantile].as_f64().unwrap();
    assert!(at("p50_ms") <= at("p99_ms") && at("p99_ms") <= at("max_ms"), "{figures}");
}

#[test]
fn loads_print_what_they_did_and_what_it_was_measured_on() {
    for (what, flags) in
        [("put", &["--pipelined"][..]), ("put", &["--rate", "50"]), ("get", &[]), ("elect", &[]), ("session", &[])]
    {
        let args = [&[what, "--own-cluster", "--clients", "4", "--for", "500ms"], flags].concat();
        let document = measured(&args);
        assert_eq!((&document["what"], &document["clients"]), (&what.into(), &4.into()));
        assert_eq!(document["errors"], serde_json::json!({}), "{document}");
        is_latencies(&document, 1);
    }
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("nodes.svg");
    let counted = ["put", "--own-cluster", "--pipelined", "--count", "500", "--curve", picture.to_str().unwrap()];
    let document = measured(&counted);
    assert_eq!(document["count"], 500, "{document}");
    assert_eq!(document["nodes"]["most_disk_mib"].as_array().unwrap().len(), 3, "{document}");
    assert!(std::fs::read_to_string(picture).unwrap().contains("node 3"));
    let held = measured(&["session", "--own-cluster", "--hold", "50", "--for", "500ms"]);
    assert_eq!((&held["sessions"], &held["lost"]), (&50.into(), &0.into()));
    let watched = measured(&["watch", "--own-cluster", "--observers", "20", "--changes", "3"]);
    is_latencies(&watched, 60);
    let watched = measured(&["watch", "--own-cluster", "--observers", "20", "--keys", "--changes", "3"]);
    assert_eq!((&watched["what"], &watched["watchers"]), (&"watch-keys".into(), &20.into()));
    is_latencies(&watched, 60);
}

#[test]
fn transfers_go_to_the_candidate_that_is_named() {
    let document = measured(&["failover", "--mode", "transfer", "--kills", "2"]);
    for name in ["transfer_to_next_grant", "asked_transfer_to_next_grant"] {
        is_latencies(&document[name], 2);
    }
}

#[test]
fn failovers_lose_no_session_and_change_no_grant() {
    let modes = "holder,silent-holder,hand-over,store-leader,store-pause";
    let document = measured(&["failover", "--mode", modes, "--kills", "1", "--store-kills", "1", "--ttl", "1s"]);
    for name in ["holder_kill_to_next_grant", "silent_holder_to_next_grant", "hand_over_to_next_grant"] {
        is_latencies(&document[name], 1);
    }
    for name in ["store_leader_kill_longest_write_gap", "store_leader_pause_longest_write_gap"] {
        is_latencies(&document[name], 1);
        assert_eq!((&document[name]["sessions_lost"], &document[name]["grants_changed"]), (&0.into(), &0.into()));
    }
}

#[test]
fn a_bench_that_cannot_be_is_refused_by_name() {
    for (args, name) in [
        (&["put", "--clients", "0"][..], "--clients"),
        (&["get", "--rate", "0"], "--rate"),
        (&["session", "--hold", "0"], "--hold"),
        (&["failover", "--mode", "sleep"], "--mode"),
    ] {
        let output = palisade().arg("bench").args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(output.status), 2, "{args:?}: {stderr}");
        assert!(stderr.contains(name), "{args:?}: {stderr}");
    }
}

#[test]
fn fenced_calls_are_measured_beside_tonic_and_tcp_in_one_run() {
    let document = measured(&["rpc", "--for", "50ms", "--rounds", "1", "--in-flight", "16"]);
    let loads = ["tcp_one", "tonic_unary_one", "ask_one", "tonic_unary_64", "tonic_unary_pipelined", "ask_pipelined"];
    for load in loads {
        is_latencies(&document[load], 1);
    }
    for load in ["tonic_stream", "tell"] {
        assert!(document[load]["count"].as_u64().unwrap() > 0, "{document}");
    }
    for ratio in ["ask_pipelined_to_tonic_unary", "ask_one_p50_to_tonic_unary_one", "tell_to_tonic_stream"] {
        assert!(document["ratios"][ratio].as_f64().unwrap() > 0.0, "{document}");
    }
    for cost in ["idle_gateway_bytes", "used_gateway_bytes_at_the_receiver", "queued_call_of_32_bytes"] {
        assert!(document["memory"][cost].is_u64(), "{document}");
    }
    assert!(document["token_check_ns"].as_f64().unwrap() > 0.0, "{document}");
    let refused = palisade().args(["bench", "rpc", "--only", "nothing"]).output().unwrap();
    assert_eq!(code(refused.status), 2, "{refused:?}");
}

#[test]
fn a_node_is_measured_when_nothing_happens() {
    let document = measured(&["node", "--starts", "1", "--for", "100ms"]);
    for name in ["new_to_listening", "new_to_first_write", "again_to_listening", "again_to_first_write"] {
        is_latencies(&document[name], 1);
    }
    let idle = document["idle_memory_kb"].as_array().unwrap();
    assert!(idle.len() == 3 && idle.iter().all(|kb| kb.as_u64() > Some(1_000)), "{document}");
    assert!(document["binary_bytes"].as_u64() > Some(1_000_000), "{document}");
}

/// The processes that one has started, whichever of its threads did.
fn children(id: i32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let told = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    told.flat_map(|ids| ids.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn a_load_that_is_asked_to_end_leaves_no_nodes_behind() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = palisade();
        command.args(["bench", "put", "--own-cluster", "--clients", "1", "--for", "60s"]);
        let mut load = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let nodes = eventually("its nodes run", || Some(children(load.id())).filter(|nodes| nodes.len() == 3));
        load.signal(signal);
        assert_eq!(load.wait().code(), Some(130));
        for node in nodes {
            let gone = || (!std::path::Path::new(&format!("/proc/{node}")).exists()).then_some(());
            eventually("its node has ended", gone);
        }
    }
}
