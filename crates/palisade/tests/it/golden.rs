//! One golden file per command: the JSON that programs read changes only when somebody decides so. `PALISADE_REWRITE=1` writes the
//! files anew, to be read by eye.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Cluster, eventually};

/// What differs from run to run is replaced by its own name; that it is there, and where, is what counts.
const VARY: &[&str] = &[
    "cluster_id",
    "address",
    "applied",
    "term",
    "seq",
    "since_unix_ms",
    "until_unix_ms",
    "since_seq",
    "until_seq",
    "complete_after_seq",
    "session",
    "attach_generation",
    "deadline_in_ms",
    "store_leader",
    "role",
    "message",
    "sessions",
    "revision",
    "create_revision",
    "mod_revision",
    "from",
    "store_id",
    "behind",
    "answers",
    "saved_unix_ms",
    "bytes",
    "checksum",
    "file",
    "folder",
];

/// One of each.
const TXN: &str = r#"{
    "compare": [{"key": "key", "is": "greater", "version": 0}],
    "success": [
        {"put": {"key": "txn/a", "value": "1"}},
        {"get": {"key": "txn/", "prefix": true}},
        {"delete": {"key": "absent"}},
        {"txn": {"compare": [{"key": "absent", "value": "1"}], "failure": [{"put": {"key": "txn/b", "value": "2"}}]}}
    ]
}"#;

fn normalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let kept = match field {
                    Value::String(text) => text.is_empty(),
                    Value::Array(_) => true,
                    _ => false,
                };
                if VARY.contains(&name.as_str()) && !kept {
                    *field = format!("<{name}>").into();
                } else {
                    normalise(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
        _ => {}
    }
}

/// Without what the texts of an error name of this run.
fn without(names: &[(&str, &str)], value: &Value) -> Value {
    let text = names.iter().fold(value.to_string(), |text, (name, instead)| text.replace(name, instead));
    serde_json::from_str(&text).unwrap()
}

fn compare(name: &str, mut got: Value) {
    normalise(&mut got);
    let text = serde_json::to_string_pretty(&got).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/golden/{name}.json"));
    if std::env::var("PALISADE_REWRITE").is_ok() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name}: the JSON changed; PALISADE_REWRITE=1 rewrites {}", path.display());
}

#[test]
fn the_json_of_each_command_is_as_documented() {
    let cluster = Cluster::start();
    let holder = cluster.candidate("golden", "holder", &["--ttl", "10s", "--value", "hello"]);
    compare("elect-campaign-granted", holder.next("granted"));
    compare("elect-leader", cluster.json(&["elect", "leader", "golden"]));
    compare("elect-list", cluster.json(&["elect", "list"]));
    compare("elect-leader-none", cluster.refused(&["elect", "leader", "nobody"]).1);
    compare("elect-resign-refused", cluster.refused(&["elect", "resign", "golden", "--token", "99"]).1);
    compare("kv-put", cluster.json(&["kv", "put", "key", "value", "--fence", "golden:1"]));
    compare("kv-put-stale", cluster.refused(&["kv", "put", "key", "value", "--fence", "golden:2"]).1);
    compare("kv-get", cluster.json(&["kv", "get", "key"]));
    compare("kv-get-absent", cluster.refused(&["kv", "get", "absent"]).1);
    let watcher = cluster.watcher(&["key", "--prev"]);
    compare("kv-watch-started", watcher.next("started"));
    compare("kv-get-prefix", cluster.json(&["kv", "get", "ke", "--prefix"]));
    compare("kv-get-keys-only", cluster.json(&["kv", "get", "ke", "--prefix", "--keys-only"]));
    compare("kv-get-count", cluster.json(&["kv", "get", "ke", "--prefix", "--count", "--serializable"]));
    compare("kv-put-prev", cluster.json(&["kv", "put", "key", "other", "--prev"]));
    compare("kv-watch-put", watcher.next("put"));
    let txn = cluster.dir.path().join("txn.json");
    std::fs::write(&txn, TXN).unwrap();
    compare("kv-txn", cluster.json(&["kv", "txn", txn.to_str().unwrap()]));
    compare("kv-txn-refused", cluster.refused(&["kv", "txn", txn.to_str().unwrap(), "--fence", "golden:2"]).1);
    compare("kv-compact", cluster.json(&["kv", "compact", "2"]));
    compare("kv-get-compacted", cluster.refused(&["kv", "get", "key", "--rev", "1"]).1);
    compare("kv-watch-compacted", cluster.refused(&["kv", "watch", "key", "--from", "1"]).1);
    compare("kv-delete", cluster.json(&["kv", "delete", "key"]));
    compare("kv-watch-delete", watcher.next("delete"));
    compare("kv-delete-prefix", cluster.json(&["kv", "delete", "txn/", "--prefix", "--prev"]));
    compare("kv-delete-nothing", cluster.json(&["kv", "delete", "key"]));
    compare("cluster-status", cluster.json(&["cluster", "status"]));
    compare("cluster-members", cluster.json(&["cluster", "members"]));
    compare("cluster-add", cluster.json(&["cluster", "add", "4", "node-4.example:7070"]));
    compare("cluster-promote-refused", cluster.refused(&["cluster", "promote", "4"]).1);
    compare("cluster-remove", cluster.json(&["cluster", "remove", "4"]));
    compare("cluster-raise-level", cluster.json(&["cluster", "raise-level"]));
    compare("cluster-transfer-leader", cluster.json(&["cluster", "transfer-leader", "1"]));
    let backup = cluster.dir.path().join("backup");
    let (backup, data) = (backup.to_str().unwrap(), cluster.dir.path().join("restored"));
    let (save, data) = (["cluster", "snapshot", "save", backup], data.to_str().unwrap());
    let restore = ["cluster", "snapshot", "restore", backup, "--data", data, "--generation", "2000000000"];
    compare("cluster-snapshot-save", cluster.json(&save));
    compare("cluster-snapshot-restore", cluster.json(&restore));
    let (dir, node) = (cluster.dir.path().to_str().unwrap(), &cluster.addresses[0]);
    let refused = |args: &[&str]| without(&[(dir, "DIR"), (node, "ADDRESS")], &cluster.refused(args).1);
    compare("cluster-snapshot-save-refused", refused(&save));
    let full = cluster.dir.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("letters"), "somebody else's").unwrap();
    let into_full = ["cluster", "snapshot", "restore", backup, "--data", full.to_str().unwrap()];
    compare("cluster-snapshot-restore-refused", refused(&into_full));
    let no_backup = cluster.dir.path().join("no-backup");
    std::fs::write(&no_backup, "not one").unwrap();
    let restore = ["cluster", "snapshot", "restore", no_backup.to_str().unwrap(), "--data", data];
    compare("cluster-snapshot-restore-unreadable", refused(&restore));
    compare("cluster-raise-level-refused", refused(&["cluster", "raise-level", "9"]));
    compare("health", cluster.json(&["health", &cluster.addresses[0]]));
    let observer = cluster.observer("golden");
    compare("elect-observe-state", observer.next("state"));
    compare("elect-resign", cluster.json(&["elect", "resign", "golden", "--token", "1", "--force"]));
    compare("elect-campaign-lost", holder.next("lost"));
    compare("elect-observe-vacant", observer.next("vacant"));
    // It campaigns again by itself.
    holder.next("granted");
    compare("elect-observe-elected", observer.next("elected"));
    compare("elect-history", cluster.json(&["elect", "history", "golden"]));
    compare("session-list", cluster.json(&["session", "list"]));
    let standby = cluster.candidate("golden", "standby", &["--ttl", "10s"]);
    eventually("it waits", || (cluster.json(&["elect", "list"])["elections"][0]["waiting"] == 1).then_some(()));
    compare("elect-withdraw", cluster.json(&["elect", "withdraw", "golden", "--id", "standby"]));
    eventually("it waits again", || (cluster.json(&["elect", "list"])["elections"][0]["waiting"] == 1).then_some(()));
    compare("elect-transfer", cluster.json(&["elect", "transfer", "golden", "--to", "standby", "--end-session"]));
    compare("elect-campaign-transferred", holder.next("lost"));
    standby.next("granted");
    let session = eventually("it has a session", || {
        let sessions = cluster.json(&["session", "list"]);
        let all = sessions["sessions"].as_array()?;
        all.iter().find(|it| it["leaderships"] == 1).map(|it| it["session"].to_string())
    });
    compare("session-close", cluster.json(&["session", "close", &session]));
    let ahead = cluster.observer_with("golden", &["--from", "1000000000"]);
    compare("elect-observe-gap", ahead.next("gap"));
}
