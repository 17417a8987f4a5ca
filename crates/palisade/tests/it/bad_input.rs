//! Bad input gets an error that names the field, the value and the limit, and changes nothing.

use std::io::{Read, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Cluster, code, eventually, palisade};

fn seq(cluster: &Cluster) -> u64 {
    cluster.json(&["cluster", "status"])["seq"].as_u64().unwrap()
}

#[test]
fn bad_requests_name_field_value_and_limit_and_change_nothing() {
    let cluster = Cluster::start();
    let long_key = "k".repeat(4097);
    let long_name = "n".repeat(256);
    // (arguments, exit code, kind, what the error must name)
    let cases: &[(&[&str], i32, &str, &[&str])] = &[
        (&["kv", "get", "absent"], 3, "key_not_found", &["absent"]),
        (&["kv", "put", &long_key, "v"], 3, "invalid_argument", &["key", "4096"]),
        (&["kv", "put", "", "v"], 3, "invalid_argument", &["key"]),
        (&["kv", "put", "k", "v", "--fence", "e:x"], 2, "usage", &["--fence", "e:x"]),
        (&["kv", "put", "k", "v", "--fence", "e:0"], 2, "usage", &["--fence", "e:0"]),
        (&["kv", "put", "k", "v", "--fence", "nobody:7"], 3, "stale_token", &["nobody"]),
        (&["kv", "put", "k", "v", "--session", "7"], 3, "session_ended", &["7"]),
        (&["kv", "get", &long_key, "--prefix"], 3, "invalid_argument", &["keys.key", "4096"]),
        (&["kv", "get", "k", "--rev", "999999"], 3, "future_revision", &["999999"]),
        (&["kv", "delete", &long_key, "--prefix"], 3, "invalid_argument", &["keys.key", "4096"]),
        (&["kv", "watch", &long_key], 3, "invalid_argument", &["keys.key", "4096"]),
        (&["kv", "watch", "k", "--progress", "1ms"], 3, "invalid_argument", &["progress_interval_ms", "100"]),
        (&["kv", "txn", "/nonexistent"], 2, "usage", &["FILE", "/nonexistent"]),
        (&["elect", "resign", "nobody", "--token", "7"], 3, "election_not_found", &["nobody"]),
        (&["elect", "resign", "e", "--token", "seven"], 2, "usage", &["--token", "seven"]),
        (&["elect", "leader", "nobody"], 3, "no_leader", &["nobody"]),
        (&["elect", "leader", &long_name], 3, "invalid_argument", &["election", "255"]),
        (&["elect", "campaign", "e", "--ttl", "1ms"], 3, "invalid_argument", &["ttl", "1", "200"]),
        (&["elect", "campaign", "e", "--ttl", "24h"], 3, "invalid_argument", &["ttl", "86400000", "600000"]),
        (&["elect", "campaign", "\u{7}", "--ttl", "1s"], 3, "invalid_argument", &["election"]),
    ];
    for (args, exit, kind, names) in cases {
        let before = seq(&cluster);
        let (got, error) = cluster.refused(args);
        assert_eq!((got, error["kind"].as_str()), (*exit, Some(*kind)), "{args:?}: {error}");
        for name in *names {
            assert!(error.to_string().contains(name), "{args:?}: the error does not name {name}: {error}");
        }
        assert_ne!(error["outcome"], "unknown", "{args:?}: {error}");
        // Opening a session for a campaign is a command; a refused campaign itself is none that changes anything.
        if args[0] == "kv" && *kind == "invalid_argument" {
            assert_eq!(seq(&cluster), before, "{args:?} reached the log");
        }
    }
    assert_eq!(cluster.refused(&["kv", "get", "k"]).1["kind"], "key_not_found", "something was written");
}

#[test]
fn a_value_over_the_limit_is_refused() {
    let cluster = Cluster::start();
    for size in [(1 << 20) + 1, 3 << 20] {
        let mut put = palisade()
            .args(["kv", "put", "k", "-", "--output", "json", "--endpoints", &cluster.endpoints()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        put.stdin.take().unwrap().write_all(&vec![b'x'; size]).unwrap();
        let output = put.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(output.status), 3, "{size}: {stderr}");
        let error: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"]["outcome"], "not_applied", "{stderr}");
    }
    assert_eq!(cluster.refused(&["kv", "get", "k"]).1["kind"], "key_not_found");
}

#[test]
fn a_server_refuses_a_bad_command_line_with_the_field_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--id", "1", "--listen", "nonsense", "--initial", "1=127.0.0.1:1"], &["listen", "nonsense"]),
        (&["--id", "1", "--initial", "1=nonsense"], &["nonsense"]),
        (&["--id", "1", "--initial", "one=127.0.0.1:1"], &["--initial", "one=127.0.0.1:1"]),
        (&["--id", "4", "--initial", "1=127.0.0.1:1,2=127.0.0.1:2"], &["initial", "4"]),
        (&["--id", "1", "--initial", "1=127.0.0.1:1,1=127.0.0.1:2"], &["initial", "1"]),
        (&["--id", "0", "--initial", "0=127.0.0.1:1"], &["id", "0"]),
        (&["--id", "1", "--initial", "1=127.0.0.1:1", "--min-ttl", "10s", "--max-ttl", "1s"], &["ttl"]),
        (&["--id", "1", "--join", "nonsense"], &["--join", "nonsense"]),
        (&["--id", "1", "--initial", "1=127.0.0.1:1", "--log", "palisade=loud"], &["--log", "palisade=loud", "debug"]),
    ];
    for (args, names) in cases {
        let output = palisade().arg("server").args(*args).args(["--data", data]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(output.status), 2, "{args:?}: {stderr}");
        for name in *names {
            assert!(stderr.contains(name), "{args:?}: the error does not name {name}: {stderr}");
        }
    }
}

#[test]
fn a_config_file_with_an_unknown_key_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("palisade.toml");
    std::fs::write(&file, "endpoint = \"127.0.0.1:1\"\n").unwrap();
    let output = palisade().args(["cluster", "status", "--config", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(code(output.status), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("endpoint: '127.0.0.1:1': there is no such flag; did you mean 'endpoints'?"), "{said}");
}

#[test]
fn garbage_closes_that_connection_and_nothing_else() {
    let cluster = Cluster::start();
    for (at, garbage) in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nhalf a frame"]
            .iter()
            .enumerate()
    {
        let mut socket = std::net::TcpStream::connect(&cluster.addresses[at % 3]).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        socket.write_all(garbage).unwrap();
        // A half frame may be waited for; shutting our side down ends it.
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        assert_eq!(cluster.json(&["kv", "put", "k", "v"])["key"], "k");
    }
    for node in 0..3 {
        let output = palisade().args(["health", &cluster.addresses[node]]).output().unwrap();
        assert!(output.status.success());
    }
}

#[test]
fn a_wiped_folder_under_an_old_id_is_refused_with_advice() {
    let mut cluster = Cluster::start();
    let victim = cluster.store_leader() % 3 + 1;
    cluster.nodes[victim - 1].kill();
    std::fs::remove_dir_all(cluster.data(victim)).unwrap();
    cluster.restart(victim);
    assert_eq!(code(cluster.nodes[victim - 1].wait()), 1);
    let log = cluster.log(victim);
    assert!(log.contains("this node's store is lost: remove it and add it under a new id"), "{log}");
    assert_eq!(cluster.json(&["kv", "put", "k", "v"])["key"], "k", "the others go on");
}

#[test]
fn a_folder_in_use_and_a_folder_of_another_cluster_are_refused() {
    let cluster = Cluster::start();
    let output = palisade()
        .args(["server", "--id", "1", "--listen", &cluster.addresses[0], "--data", cluster.data(1).to_str().unwrap()])
        .args(["--initial", &cluster.initial()])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("in use"), "{stderr}");

    let mut other = Cluster::start();
    other.nodes[0].kill();
    let mut stranger = cluster;
    stranger.nodes[0].kill();
    std::fs::remove_dir_all(other.data(1)).unwrap();
    std::fs::rename(stranger.data(1), other.data(1)).unwrap();
    other.restart(1);
    eventually("the node of another cluster is refused, with words", || {
        let ended = other.nodes[0].0.try_wait().unwrap().is_some();
        (ended && other.log(1).contains("the data folder belongs to cluster")).then_some(())
    });
    assert_eq!(other.json(&["kv", "put", "k", "v"])["key"], "k", "the others go on");
}
