//! Changes of the members, from outside: a cluster of real processes grows, is restarted node by node, has a lost node replaced, moves
//! to other machines and shrinks, while clients that were started with its first address write; and what must not be is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use palisade_client::{Client, ClientConfig, PutOptions, RangeOptions, SessionOptions};
use palisade_world::World;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Candidate, Cluster, Running, code, eventually, free_addresses, palisade};

/// A cluster whose nodes come and go.
struct Members {
    dir: TempDir,
    addresses: BTreeMap<u64, String>,
    running: BTreeMap<u64, Running>,
    /// Removed while they ran.
    leaving: Vec<(u64, Running)>,
}

impl Members {
    /// One node.
    fn start() -> Members {
        let (dir, addresses) = (tempfile::tempdir().unwrap(), BTreeMap::new());
        let mut members = Members { dir, addresses, running: BTreeMap::new(), leaving: Vec::new() };
        let address = members.place(1);
        members.spawn(1, &["--initial", &format!("1={address}")]);
        eventually("the cluster serves", || {
            members.run(&["kv", "put", "up", "1", "--timeout", "1s"]).status.success().then_some(())
        });
        members
    }

    /// An address for a node.
    fn place(&mut self, id: u64) -> String {
        self.addresses.entry(id).or_insert_with(|| free_addresses(1).remove(0)).clone()
    }

    fn data(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("data-{id}"))
    }

    fn log(&self, id: u64) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("node-{id}.log"))).unwrap_or_default()
    }

    fn spawn(&mut self, id: u64, how: &[&str]) {
        let log = self.dir.path().join(format!("node-{id}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = palisade();
        command.args(["server", "--id", &id.to_string(), "--listen", &self.addresses[&id], "--log", "info"]);
        command.arg("--data").arg(self.data(id)).args(how);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.running.insert(id, Running(child));
    }

    /// Any node that runs, as an operator would name it.
    fn endpoints(&self) -> String {
        self.running.keys().map(|id| self.addresses[id].clone()).collect::<Vec<_>>().join(",")
    }

    fn run(&self, args: &[&str]) -> Output {
        palisade().args(args).args(["--endpoints", &self.endpoints()]).stdin(Stdio::null()).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--output", "json", "--timeout", "20s"]].concat());
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{args:?}: {why}\n{}",
            self.running.keys().map(|id| self.log(*id)).collect::<String>()
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Adds a node, starts it with one running member named, and lets it vote.
    fn grow(&mut self, id: u64) {
        let address = self.place(id);
        let added = self.json(&["cluster", "add", &id.to_string(), &address]);
        assert_eq!(added["role"], "learner");
        let member = self.addresses[self.running.keys().next().unwrap()].clone();
        self.spawn(id, &["--join", &member]);
        let promoted = self.json(&["cluster", "promote", &id.to_string(), "--wait", "30s"]);
        assert_eq!(promoted["role"], "voter");
    }

    /// Removes a node; if it runs, it will stop by itself.
    fn remove(&mut self, id: u64) {
        let removed = self.json(&["cluster", "remove", &id.to_string()]);
        assert_eq!(removed["role"], "removed");
        self.leaving.extend(self.running.remove(&id).map(|node| (id, node)));
    }

    /// Whoever was removed has stopped, and has said why.
    fn have_left(&mut self) {
        for (id, mut node) in std::mem::take(&mut self.leaving) {
            assert_eq!(code(node.wait()), 1, "node {id}");
            assert!(self.log(id).contains("it was removed"), "{}", self.log(id));
        }
    }

    fn voters(&self) -> BTreeSet<u64> {
        let members = self.json(&["cluster", "members"]);
        let members = members["members"].as_array().unwrap();
        members.iter().filter(|it| it["role"] == "voter").map(|it| it["id"].as_u64().unwrap()).collect()
    }

    fn leader(&self) -> u64 {
        eventually("a node leads the store", || self.json(&["cluster", "members"])["store_leader"].as_u64())
    }

    /// Stops each node in good order and starts it again.
    fn restart_each(&mut self) {
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            let mut node = self.running.remove(&id).unwrap();
            node.signal(Signal::SIGTERM);
            assert_eq!(code(node.wait()), 0, "{}", self.log(id));
            // What it was told when it was new no longer counts.
            self.spawn(id, &["--join", "127.0.0.1:9"]);
            eventually("it follows and has caught up", || {
                let members = self.json(&["cluster", "members"]);
                let node = members["members"].as_array()?.iter().find(|it| it["id"] == id)?.clone();
                (node["answers"] == true && node["behind"].as_u64()? < 100).then_some(())
            });
        }
    }
}

/// Writers that know the first address of the cluster and nothing else. No request of theirs may fail.
struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<std::thread::JoinHandle<Result<u64, String>>>,
}

impl Load {
    fn start(endpoint: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = |name: u64| {
            let (stop, endpoint) = (Arc::clone(&stop), endpoint.to_owned());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(write(name, &endpoint, &stop))
            })
        };
        let writers = (0..3).map(writer).collect();
        Load { stop, writers }
    }

    /// How many writes of each writer were acknowledged.
    fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Release);
        self.writers.into_iter().map(|writer| writer.join().unwrap().unwrap_or_else(|why| panic!("{why}"))).collect()
    }
}

async fn write(name: u64, endpoint: &str, stop: &AtomicBool) -> Result<u64, String> {
    let config = ClientConfig { endpoints: vec![endpoint.to_owned()], request_timeout: Duration::from_secs(20) };
    let client = Client::new(config, World::real()).map_err(|error| error.to_string())?;
    // With a session a write has a request id, so that the client repeats it by itself.
    let session = client
        .open_session(SessionOptions { ttl: Duration::from_secs(20), ..SessionOptions::default() })
        .await
        .map_err(|error| format!("session: {error}"))?;
    let mut count = 0;
    while !stop.load(Ordering::Acquire) {
        let (key, value) = (format!("load/{name}/{count:08}"), count.to_string());
        let put = PutOptions { session: Some(&session), ..PutOptions::new(key, value) };
        client.put(put).await.map_err(|error| format!("write {count} of {name}: {error}"))?;
        count += 1;
    }
    Ok(count)
}

/// How many keys of each writer there are, each with what was written last.
async fn count(endpoint: String, name: usize) -> u64 {
    let config = ClientConfig { endpoints: vec![endpoint], request_timeout: Duration::from_secs(20) };
    let client = Client::new(config, World::real()).unwrap();
    let found = client.range(RangeOptions::new(palisade_client::Keys::prefix(format!("load/{name}/")))).await.unwrap();
    let found = found.found.kvs;
    for (at, found) in found.iter().enumerate() {
        assert_eq!(found.key, format!("load/{name}/{at:08}").as_bytes(), "one is missing");
        assert_eq!(found.value, at.to_string().as_bytes());
    }
    found.len() as u64
}

#[test]
fn a_cluster_grows_restarts_replaces_moves_and_shrinks_under_load_and_loses_nothing() {
    let mut members = Members::start();
    let first = members.addresses[&1].clone();
    let load = Load::start(&first);
    let holder = Candidate::spawn(
        palisade().args([
            "elect",
            "campaign",
            "e",
            "--id",
            "a",
            "--ttl",
            "20s",
            "--output",
            "jsonl",
            "--endpoints",
            &first,
        ]),
        members.dir.path(),
    );
    let granted = holder.next("granted");

    for id in [2, 3] {
        members.grow(id);
    }
    members.restart_each();
    for id in [4, 5] {
        members.grow(id);
    }
    assert_eq!(members.voters(), (1..=5).collect());

    // A node is lost with its disk: another takes its place under a new id.
    let lost = if members.leader() == 2 { 3 } else { 2 };
    members.running.remove(&lost).unwrap().kill();
    std::fs::remove_dir_all(members.data(lost)).unwrap();
    members.grow(6);
    members.remove(lost);
    let transferred = members.json(&["cluster", "transfer-leader", "5"]);
    assert_eq!(transferred["store_leader"], 5);

    // Away from the machines on which it began; the store leader goes, too.
    for id in [1, 2, 3, 5, 4] {
        members.remove(id);
    }
    assert_eq!(members.voters(), [6].into());
    members.have_left();
    let acknowledged = load.end();
    let (rest, told) = (members.addresses[&6].clone(), holder.so_far());
    assert!(told.iter().all(|event| event["event"] != "lost"), "{told:?}");
    assert_eq!(members.json(&["elect", "leader", "e"])["token"], granted["token"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, acknowledged) in acknowledged.into_iter().enumerate() {
        assert!(acknowledged > 0, "writer {name} wrote nothing");
        assert_eq!(runtime.block_on(count(rest.clone(), name)), acknowledged, "writer {name}");
    }
}

#[test]
fn changes_that_must_not_be_are_refused_with_words() {
    let mut cluster = Cluster::start();
    let refused = |cluster: &Cluster, args: &[&str]| {
        let (code, error) = cluster.refused(args);
        assert_eq!((code, error["outcome"].as_str()), (3, Some("not_applied")), "{error}");
        error["message"].as_str().unwrap().to_owned()
    };
    // An id that is no member is refused, with the advice to add it.
    let stranger = free_addresses(1).remove(0);
    let join = |id: &str| {
        let data = cluster.dir.path().join(format!("stranger-{id}"));
        let mut server = palisade();
        server.args(["server", "--id", id, "--listen", &stranger, "--join", &cluster.addresses[0], "--data"]);
        server.arg(data).stdin(Stdio::null()).output().unwrap()
    };
    let output = join("4");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(output.status), 1, "{words}");
    assert!(words.contains(&format!("add it there first, with 'palisade cluster add 4 {stranger}'")), "{words}");

    assert!(refused(&cluster, &["cluster", "add", "3", &stranger]).contains("node 3 was added with the address"));
    assert!(refused(&cluster, &["cluster", "add", "9", &cluster.addresses[0]]).contains("is the address of node 1"));
    cluster.json(&["cluster", "add", "4", &stranger]);
    assert!(refused(&cluster, &["cluster", "promote", "4"]).contains("node 4 has not joined yet"));
    assert!(refused(&cluster, &["cluster", "transfer-leader", "4"]).contains("node 4"));
    assert!(refused(&cluster, &["cluster", "promote", "7"]).contains("node 7 is not a member"));
    cluster.json(&["cluster", "remove", "4"]);
    cluster.json(&["cluster", "remove", "4"]); // somebody may not have heard the first answer
    assert!(refused(&cluster, &["cluster", "add", "4", &stranger]).contains("give it an id above 4"));
    let output = join("4");
    assert!(String::from_utf8_lossy(&output.stderr).contains("it was removed, or a higher id was used before"));

    // One of three is gone: another must not be removed before it.
    let leader = cluster.store_leader();
    let (gone, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.nodes[gone - 1].kill();
    let words = refused(&cluster, &["cluster", "remove", &other.to_string()]);
    assert!(words.contains("1 of 2 voters would answer") && words.contains(&format!("node {gone}")), "{words}");
    cluster.json(&["cluster", "remove", &gone.to_string()]);
    cluster.restart(gone);
    assert_eq!(code(cluster.nodes[gone - 1].wait()), 1, "it is told that it was removed");
    assert!(cluster.log(gone).contains("it was removed"));
}
