//! `palisade kv` across real processes.

use std::io::Write;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Cluster, code, eventually, palisade};

fn stdout(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `palisade kv txn -`: the exit code, the document, and the kind of the error.
fn txn(cluster: &Cluster, text: &str) -> (i32, Value, Value) {
    let mut child = palisade()
        .args(["kv", "txn", "-", "--output", "json", "--endpoints", &cluster.endpoints()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let error = stderr.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let document = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (code(output.status), document, error.map_or(Value::Null, |error| error["error"].clone()))
}

#[test]
fn get_writes_the_raw_value_or_a_table_or_a_number() {
    let cluster = Cluster::start();
    for (key, value) in [("a/1", "x"), ("a/2", "y\n"), ("b", "z")] {
        cluster.json(&["kv", "put", key, value]);
    }
    assert_eq!(stdout(&cluster, &["kv", "get", "a/2"]), "y\n", "nothing is added to a value");
    assert_eq!(stdout(&cluster, &["kv", "get", "a/", "--prefix", "--keys-only"]), "a/1\na/2\n");
    assert_eq!(stdout(&cluster, &["kv", "get", "a/2", "--from-key", "--count"]), "3\n", "the harness writes one, too");
    assert!(stdout(&cluster, &["kv", "get", "a/", "--prefix"]).trim_start().starts_with("KEY"));
    assert_eq!(stdout(&cluster, &["kv", "get", "nothing", "--prefix", "--count"]), "0\n");
    let newest = ["kv", "get", "", "--prefix", "--sort", "mod_revision", "--descending", "--limit", "1"];
    let newest = cluster.json(&newest);
    assert_eq!((newest["kvs"][0]["key"].as_str(), &newest["more"]), (Some("b"), &json!(true)));
}

#[test]
fn get_shows_more_than_one_answer_of_the_store_can_hold() {
    let cluster = Cluster::start();
    let large = "x".repeat(100 << 10); // as much as a command line takes
    for n in 10..34 {
        cluster.json(&["kv", "put", &format!("many/{n}"), &large]);
    }
    let names = |document: &Value| -> Vec<String> {
        let kvs = document["kvs"].as_array().unwrap();
        kvs.iter().map(|kv| kv["key"].as_str().unwrap().to_owned()).collect()
    };
    let all: Vec<String> = (10..34).map(|n| format!("many/{n}")).collect();
    let whole = cluster.json(&["kv", "get", "many/", "--prefix"]);
    assert_eq!((names(&whole), &whole["more"], &whole["count"]), (all.clone(), &json!(false), &json!(24)));
    assert_eq!(whole["kvs"][23]["value"].as_str().map(str::len), Some(large.len()));
    let some = cluster.json(&["kv", "get", "many/", "--prefix", "--limit", "23"]);
    assert_eq!((names(&some), &some["more"]), (all[..23].to_vec(), &json!(true)));
    let down = cluster.json(&["kv", "get", "many/", "--prefix", "--sort", "mod_revision", "--descending"]);
    assert_eq!(names(&down), all.iter().rev().cloned().collect::<Vec<_>>());
    let table = stdout(&cluster, &["kv", "get", "many/", "--prefix"]);
    assert_eq!(table.lines().filter(|line| line.trim_start().starts_with("many/")).count(), 24);
}

#[test]
fn the_past_can_be_read_until_it_is_compacted() {
    let cluster = Cluster::start();
    let first = cluster.json(&["kv", "put", "k", "1"])["revision"].as_u64().unwrap();
    let second = cluster.json(&["kv", "put", "k", "2", "--prev"]);
    assert_eq!(second["previous"]["value"], "1");
    let (at, then) = (first.to_string(), (first + 1).to_string());
    assert_eq!(stdout(&cluster, &["kv", "get", "k", "--rev", &at]), "1");
    assert_eq!(cluster.json(&["kv", "compact", &then])["compacted"], first + 1);
    let (exit, error) = cluster.refused(&["kv", "get", "k", "--rev", &at]);
    assert_eq!((exit, error["kind"].as_str()), (3, Some("compacted")), "{error}");
    let (exit, error) = cluster.refused(&["kv", "watch", "k", "--from", &at]);
    assert_eq!(
        (exit, error["kind"].as_str(), error["limit"].as_str()),
        (3, Some("compacted"), Some(&*format!("{then} or later")))
    );
    let (exit, error) = cluster.refused(&["kv", "compact", "999999"]);
    assert_eq!((exit, error["kind"].as_str()), (3, Some("future_revision")), "{error}");
}

#[test]
fn a_transaction_is_done_whole_and_says_which_way_it_went() {
    let cluster = Cluster::start();
    let take = r#"{
        "compare": [{"key": "lock", "version": 0}],
        "success": [{"put": {"key": "lock", "value": "me"}}, {"put": {"key": "a", "value": "1"}}],
        "failure": [{"get": {"key": "lock"}}]
    }"#;
    let (exit, done, _) = txn(&cluster, take);
    assert_eq!((exit, &done["succeeded"], &done["results"][1]["put"]["version"]), (0, &json!(true), &json!(1)));
    let (exit, done, error) = txn(&cluster, take);
    assert_eq!((exit, &done["succeeded"], error["kind"].as_str()), (3, &json!(false), Some("compare_failed")));
    assert_eq!(done["results"][0]["get"]["kvs"][0]["value"], "me");
    let (exit, _, error) = txn(&cluster, "{\n  \"succes\": []\n}");
    assert_eq!((exit, error["kind"].as_str()), (2, Some("usage")));
    assert!(error["value"].as_str().unwrap().contains("line 2"), "{error}");
    let (exit, _, error) = txn(&cluster, r#"{"fence": "nobody:7", "success": [{"delete": {"key": "lock"}}]}"#);
    assert_eq!((exit, error["kind"].as_str()), (3, Some("stale_token")), "{error}");
    assert_eq!(cluster.json(&["kv", "delete", "", "--prefix", "--prev"])["previous"][0]["key"], "a");
}

#[test]
fn a_watch_goes_on_when_the_store_leader_dies_and_misses_nothing() {
    let mut cluster = Cluster::start();
    let mut watcher = cluster.watcher(&["n/", "--prefix", "--prev"]);
    watcher.next("started");
    cluster.json(&["kv", "put", "n/a", "0"]);
    let first = watcher.next("put");
    assert_eq!((first["key"].as_str(), &first["previous"], &first["more"]), (Some("n/a"), &Value::Null, &json!(false)));
    let leader = cluster.store_leader();
    cluster.nodes[leader - 1].kill();
    let second = eventually("a write after the death of the store leader", || {
        let output = cluster.run(&["kv", "put", "n/a", "1", "--output", "json", "--timeout", "2s"]);
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    });
    watcher.next("resumed");
    // A write whose outcome was unknown may have come before the one that was answered.
    let told = loop {
        let told = watcher.next("put");
        assert_eq!((told["value"].as_str(), told["key"].as_str()), (Some("1"), Some("n/a")));
        if told["revision"] == second["revision"] {
            break told;
        }
    };
    assert_ne!(told["previous"], Value::Null);
    cluster.json(&["kv", "delete", "n/", "--prefix"]);
    assert_eq!(watcher.next("delete")["key"], "n/a");
    watcher.process.signal(Signal::SIGINT);
    assert_eq!(code(watcher.process.wait()), 0, "Ctrl-C ends it cleanly");
}
