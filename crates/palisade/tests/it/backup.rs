//! Backup and restore, from outside: a backup of a cluster that is written to, new clusters out of it, and what becomes of whoever
//! still believes in the old one. Traps of other systems carry their names.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use palisade_client::{Client, ClientConfig, Keys, PutOptions, RangeOptions, SessionOptions};
use palisade_world::World;
use serde_json::Value;

use crate::harness::{Cluster, Running, code, eventually, free_addresses, palisade};

/// One writer of numbered keys. A write that fails ends it.
struct Writer {
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<(), String>>,
}

impl Writer {
    fn start(cluster: &Cluster) -> Writer {
        let (acknowledged, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, end, endpoints) = (Arc::clone(&acknowledged), Arc::clone(&stop), cluster.addresses.clone());
        let write = async move {
            let client = client(endpoints);
            let session =
                client.open_session(SessionOptions { ttl: Duration::from_secs(20), ..SessionOptions::default() });
            let session = session.await.map_err(|error| error.to_string())?;
            while !end.load(Ordering::Acquire) {
                let number = count.load(Ordering::Acquire);
                let put = PutOptions::new(format!("load/{number:08}"), number.to_string());
                client.put(PutOptions { session: Some(&session), ..put }).await.map_err(|error| error.to_string())?;
                count.store(number + 1, Ordering::Release);
            }
            Ok(())
        };
        let thread = std::thread::spawn(move || runtime().block_on(write));
        let writer = Writer { acknowledged, stop, thread };
        writer.wait_for(50);
        writer
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    fn wait_for(&self, count: u64) {
        eventually("writes are acknowledged", || (self.acknowledged() >= count).then_some(()));
    }

    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap().unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn client(endpoints: Vec<String>) -> Client {
    Client::new(ClientConfig { endpoints, request_timeout: Duration::from_secs(20) }, World::real()).unwrap()
}

/// The writer's keys: each as it was written, from the first on without a hole. How many there are.
fn written(cluster: &Cluster) -> u64 {
    let all = async {
        let client = client(cluster.addresses.clone());
        client.range(RangeOptions::new(Keys::prefix("load/"))).await.unwrap().found.kvs
    };
    let found = runtime().block_on(all);
    for (at, kv) in found.iter().enumerate() {
        assert_eq!(kv.key, format!("load/{at:08}").as_bytes(), "one is missing");
        assert_eq!(kv.value, at.to_string().as_bytes());
    }
    found.len() as u64
}

fn save(cluster: &Cluster, name: &str) -> (PathBuf, Value) {
    let path = cluster.dir.path().join(name);
    let saved = cluster.json(&["cluster", "snapshot", "save", path.to_str().unwrap()]);
    (path, saved)
}

fn restoring(backup: &Path, data: &Path, extra: &[&str]) -> std::process::Output {
    let mut command = palisade();
    command.args(["cluster", "snapshot", "restore"]).arg(backup).arg("--data").arg(data).args(extra);
    command.args(["--output", "json"]).stdin(Stdio::null()).output().unwrap()
}

fn restore(backup: &Path, data: &Path, extra: &[&str]) -> Value {
    let output = restoring(backup, data, extra);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The words in which a restore is refused.
fn not_restored(backup: &Path, data: &Path) -> (i32, String) {
    let output = restoring(backup, data, &[]);
    (code(output.status), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A new cluster out of a backup.
fn cluster_of(backup: &Path, addresses: Vec<String>) -> (Cluster, u64) {
    let mut cluster = Cluster::at(addresses);
    let restored = [1, 2, 3].map(|id| restore(backup, &cluster.data(id), &[])["generation"].as_u64().unwrap());
    cluster.start_nodes();
    cluster.wait_until_serving();
    (cluster, restored.into_iter().max().unwrap())
}

fn new_cluster_of(backup: &Path) -> (Cluster, u64) {
    cluster_of(backup, free_addresses(3))
}

/// Has somebody lead, and gives its token.
fn granted(cluster: &Cluster, id: &str) -> u64 {
    let candidate = cluster.candidate("e", id, &["--ttl", "20s", "--release-after", "0ms"]);
    candidate.next("granted")["token"].as_u64().unwrap()
}

fn put_under(cluster: &Cluster, token: u64) -> Result<(), String> {
    let fence = format!("e:{token}");
    let output = cluster.run(&["kv", "put", "fenced", "1", "--fence", &fence, "--output", "json"]);
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn a_backup_under_load_holds_all_that_was_acknowledged_before_and_a_new_cluster_goes_on_from_it() {
    let cluster = Cluster::start();
    let writer = Writer::start(&cluster);
    let holder = cluster.candidate("e", "a", &["--ttl", "20s"]);
    let old = holder.next("granted")["token"].as_u64().unwrap();
    let session = cluster.json(&["session", "list"])["sessions"][0]["session"].to_string();
    let before = writer.acknowledged();
    let (backup, saved) = save(&cluster, "b");
    writer.wait_for(writer.acknowledged() + 50);
    writer.end();
    let (new, generation) = new_cluster_of(&backup);

    let status = new.json(&["cluster", "status"]);
    assert_eq!(status["generation"].as_u64(), Some(generation));
    assert_eq!(status["cluster_id"], saved["cluster_id"], "fences go on comparing");
    assert!(status["seq"].as_u64() > Some(saved["seq"].as_u64().unwrap() + 1_000_000), "{status}");
    assert!(status["revision"].as_u64() > Some(saved["revision"].as_u64().unwrap() + 1_000_000), "{status}");
    let kept = written(&new);
    assert!(kept >= before && kept < written(&cluster), "{kept} of at least {before}");

    // Nobody is what he was before.
    assert_eq!(new.json(&["session", "list"])["sessions"].as_array().unwrap().len(), 0);
    let (_, refused) = new.refused(&["session", "close", &session]);
    assert_eq!(refused["kind"], "session_ended", "{refused}");
    assert_eq!(new.refused(&["elect", "leader", "e"]).0, 3);
    let reigns = new.json(&["elect", "history", "e"]);
    assert_eq!((&reigns["reigns"][0]["token"], &reigns["reigns"][0]["why"]), (&old.into(), &"restored".into()));
    assert!(put_under(&new, old).unwrap_err().contains("stale_token"));
    let token = granted(&new, "b");
    assert!(token > old && token >> 32 == generation, "{token} after {old}, generation {generation}");
    assert!(put_under(&new, old).unwrap_err().contains("stale_token"));

    // What was watched and read by revision before is an explicit gap.
    let (_, gap) = new.refused(&["kv", "watch", "load/", "--prefix", "--from", "3"]);
    assert_eq!(gap["kind"], "compacted", "{gap}");
    let observer = new.observer_with("e", &["--from", "2"]);
    assert_eq!(observer.next_of_any()["event"], "gap");
}

#[test]
fn a_restored_cluster_is_one_like_any_other() {
    let old = Cluster::start();
    old.json(&["kv", "put", "k", "v"]);
    let (backup, _) = save(&old, "b");
    let (mut cluster, generation) = new_cluster_of(&backup);
    drop(old);
    assert_eq!(cluster.json(&["kv", "get", "k"])["value"], "v");
    // Each is restarted, by force.
    for id in 1..=3 {
        cluster.nodes[id - 1].kill();
        cluster.restart(id);
        cluster.wait_until_serving();
        cluster.json(&["kv", "put", &format!("after/{id}"), "v"]);
    }
    // A node that was never restored joins, and gets everything.
    let (address, data) = (free_addresses(1).remove(0), cluster.data(4));
    cluster.json(&["cluster", "add", "4", &address]);
    let log = std::fs::File::create(cluster.dir.path().join("node-4.log")).unwrap();
    let mut command = palisade();
    command.args(["server", "--id", "4", "--listen", &address, "--join", &cluster.addresses[0], "--data"]).arg(data);
    let _joining = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    cluster.json(&["cluster", "promote", "4", "--wait", "20s", "--timeout", "20s"]);
    let got = palisade().args(["kv", "get", "k", "--serializable", "--endpoints", &address]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&got.stdout), "v", "{}", cluster.log(4));
    // And a backup of it is one above.
    let (again, saved) = save(&cluster, "again");
    assert_eq!(saved["generation"].as_u64(), Some(generation));
    let restored = restore(&again, &cluster.dir.path().join("d"), &["--generation", "5"]);
    assert!(restored["generation"].as_u64() > Some(generation), "{restored}");
}

#[test]
fn trap_etcd_hazelcast_tokens_go_back_after_a_restore_after_restoring_the_same_backup_twice() {
    let old = Cluster::start();
    let first = granted(&old, "a");
    let (backup, _) = save(&old, "b");
    // What the backup misses.
    let second = granted(&old, "b");
    assert!(second > first);
    let (once, generation) = new_cluster_of(&backup);
    let third = granted(&once, "c");
    assert!(third > second, "{third} is not above {second}: a resource that has seen it refuses the new leader");
    // Generations are counted in seconds.
    let scratch = |n: u32| once.dir.path().join(format!("scratch-{n}"));
    let mut tries = 0;
    eventually("a second has passed", || {
        tries += 1;
        (restore(&backup, &scratch(tries), &[])["generation"].as_u64()? > generation).then_some(())
    });
    let (twice, later) = new_cluster_of(&backup);
    assert!(later > generation);
    let fourth = granted(&twice, "d");
    assert!(fourth > third, "{fourth} is not above {third}");
    for stale in [first, second, third] {
        assert!(put_under(&twice, stale).unwrap_err().contains("stale_token"), "{stale}");
    }
}

#[test]
fn nodes_of_before_and_after_a_restore_refuse_each_other_and_clients_are_told() {
    let mut old = Cluster::start();
    let holder = old.candidate("e", "a", &["--ttl", "20s", "--release-after", "1s"]);
    let before = holder.next("granted")["token"].as_u64().unwrap();
    let observer = old.observer("e");
    observer.next("state");
    let watcher = old.watcher(&["k"]);
    watcher.next("started");
    old.json(&["kv", "put", "k", "1"]);
    watcher.next("put");
    let (backup, _) = save(&old, "b");

    // It begins nothing beside the cluster that runs.
    let beside = old.dir.path().join("beside");
    restore(&backup, &beside, &[]);
    let address = free_addresses(1).remove(0);
    let mut command = palisade();
    command.args(["server", "--id", "4", "--listen", &address, "--data"]).arg(&beside);
    command.args(["--initial", &format!("{},4={address}", old.initial())]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(output.status), 1, "{said}");
    assert!(
        said.contains("belongs to a cluster that runs (generation 0): stop the nodes of the old cluster"),
        "{said}"
    );
    let mut command = palisade();
    command.args(["server", "--id", "4", "--listen", &address, "--join", &old.addresses[0], "--data"]).arg(&beside);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(code(output.status) == 1 && said.contains("the data folder holds a backup"), "{said}");

    // The new one takes the place of the old one.
    old.stop();
    let (mut new, generation) = cluster_of(&backup, old.addresses.clone());
    assert_eq!(holder.next("lost")["token"].as_u64(), Some(before));
    let after = holder.next("granted")["token"].as_u64().unwrap();
    assert!(after > before && after >> 32 == generation);
    let gap = observer.next("gap");
    assert_eq!(gap["why"], "generation", "{gap}");
    watcher.next("gap");
    let put = new.json(&["kv", "put", "k", "2"]);
    assert_eq!(watcher.next("put")["revision"], put["revision"]);

    // A node of the old cluster comes back.
    new.nodes[2].kill();
    old.start_node(3);
    assert_eq!(code(old.nodes[0].wait()), 1);
    let said = old.log(3);
    assert!(said.contains("the data folder has generation 0 of cluster"), "{said}");
    assert!(
        said.contains("the cluster was restored from a backup, and this folder is of the cluster before that"),
        "{said}"
    );
    new.restart(3);
    new.json(&["kv", "put", "k", "3"]);
}

#[test]
fn the_first_nodes_of_a_restored_cluster_bring_the_same_backup_or_none_begins() {
    let old = Cluster::start();
    let (backup, _) = save(&old, "b");
    old.json(&["kv", "put", "k", "later"]);
    let (other, _) = save(&old, "other");
    for third in [None, Some(&other)] {
        let mut cluster = Cluster::at(free_addresses(3));
        for id in [1, 2] {
            restore(&backup, &cluster.data(id), &[]);
        }
        if let Some(third) = third {
            restore(third, &cluster.data(3), &[]);
        }
        cluster.start_nodes();
        // Each stops and says why: whoever hears it first tells the others before it goes.
        let words = "the first nodes of a restored cluster bring the same backup";
        for id in 1..=3 {
            assert_eq!(code(cluster.nodes[id - 1].wait()), 1, "{}", cluster.log(id));
            assert!(cluster.log(id).contains(words), "{}", cluster.log(id));
        }
        let brings = if third.is_some() { "a backup of cluster" } else { "an empty folder" };
        let of_three = [format!("node 3 ({}) {brings}", cluster.addresses[2]), format!("node 3 has {brings}")];
        for id in 1..=3 {
            let said = cluster.log(id);
            assert!(of_three.iter().any(|words| said.contains(words)), "{said}");
            assert!(!cluster.log(id).contains("the cluster is formed"), "{}", cluster.log(id));
        }
    }
}

#[test]
fn what_is_no_whole_backup_is_refused_with_words_and_makes_no_folder_of_a_node() {
    let cluster = Cluster::start();
    for n in 0..20 {
        cluster.json(&["kv", "put", &format!("k{n}"), &"v".repeat(1_000)]);
    }
    let (backup, _) = save(&cluster, "b");
    let (bytes, data, bad) =
        (std::fs::read(&backup).unwrap(), cluster.dir.path().join("d"), backup.with_extension("bad"));
    let refused = |content: &[u8]| {
        std::fs::write(&bad, content).unwrap();
        let (code, said) = not_restored(&bad, &data);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("cannot be used as a backup: "), "{said}");
        assert!(!data.exists(), "a folder was begun");
        said
    };
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    assert!(refused(&damaged).contains("the checksum of a block is wrong"));
    assert!(refused(&bytes[..bytes.len() - 7]).contains("its end is not where it should be"));
    assert!(refused(b"").contains("it ends early"));
    assert!(refused(&[7; 1_000]).contains("it is not a snapshot of Palisade"));
    let mut newer = bytes.clone();
    newer[8] += 1;
    assert!(refused(&newer).contains("it has format version 3, this program reads 2"));
    let (code_, said) = not_restored(&cluster.dir.path().join("absent"), &data);
    assert!(code_ == 1 && said.contains("absent"), "{said}");

    // Nothing is replaced, neither a backup nor a folder.
    let (code_, error) = cluster.refused(&["cluster", "snapshot", "save", backup.to_str().unwrap()]);
    assert_eq!((code_, error["kind"].as_str()), (2, Some("usage")), "{error}");
    assert_eq!(std::fs::read(&backup).unwrap(), bytes);
    let (code_, said) = not_restored(&backup, &cluster.data(1));
    assert!(code_ == 2 && said.contains("it is not empty"), "{said}");

    // What was interrupted is no node's folder.
    restore(&backup, &data, &[]);
    std::fs::write(data.join("RESTORING"), "1\n").unwrap();
    let mut command = palisade();
    command.args(["server", "--id", "1", "--listen", "127.0.0.1:0", "--advertise", "127.0.0.1:1", "--data"]).arg(&data);
    let output = command.args(["--initial", "1=127.0.0.1:1"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(code(output.status) == 1 && said.contains("was interrupted: remove what is in it"), "{said}");
}

/// By which a restored folder becomes one of a cluster: the draft of its state, the snapshot's name, the number of the latest.
const BECOMES: [&str; 4] = [
    "snapshots/draft-00000000000000000001.tmp",
    "snapshots/snapshot-00000000000000000002.snap",
    "SNAPSHOT.tmp",
    "SNAPSHOT",
];

/// Starts the one node of a restored cluster, under strace if that is not empty.
fn start_restored(strace: &[String], data: &Path, address: &str, log: &Path) -> Running {
    let log = std::fs::File::create(log).unwrap();
    let mut command = match strace.split_first() {
        Some((program, args)) => {
            let mut command = std::process::Command::new(program);
            command.args(args).arg(env!("CARGO_BIN_EXE_palisade"));
            command
        }
        None => palisade(),
    };
    command
        .args(["server", "--id", "1", "--listen", address, "--initial", &format!("1={address}"), "--data"])
        .arg(data);
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

#[test]
fn a_node_that_is_killed_at_any_sync_of_forming_a_restored_cluster_forms_it_when_it_is_started_again() {
    if !crate::durability::may_trace() {
        let name = "a_node_that_is_killed_at_any_sync_of_forming_a_restored_cluster_forms_it_when_it_is_started_again";
        return crate::skip::skip(name, "strace", "strace is missing or may not trace");
    }
    let old = Cluster::start();
    old.json(&["kv", "put", "k", "v"]);
    let (backup, _) = save(&old, "b");
    // strace counts for each call and thread: the draft and the number are synced, and each gets its name.
    let renames = "?rename,?renameat,?renameat2";
    for (calls, n) in [("fsync", 1), (renames, 1), ("fsync", 2), (renames, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let (data, log, address) = (dir.path().join("d"), dir.path().join("log"), free_addresses(1).remove(0));
        restore(&backup, &data, &[]);
        let mut strace: Vec<String> = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"].map(str::to_owned).to_vec();
        strace.extend([format!("trace={calls}"), "-e".to_owned(), format!("inject={calls}:signal=KILL:when={n}")]);
        for path in BECOMES {
            strace.extend(["-P".to_owned(), data.join(path).display().to_string()]);
        }
        let mut node = start_restored(&strace, &data, &address, &log);
        assert_ne!(code(node.wait()), 0, "{calls} {n}: {}", std::fs::read_to_string(&log).unwrap());
        let formed = std::fs::read_to_string(&log).unwrap().contains("the cluster is formed");
        assert!(!formed, "{calls} {n} comes too late");
        let _again = start_restored(&[], &data, &address, &log);
        let got = eventually("it serves what was restored", || {
            let get = ["kv", "get", "k", "--endpoints", &address, "--timeout", "1s"];
            let output = palisade().args(get).stdin(Stdio::null()).output().unwrap();
            output.status.success().then_some(output.stdout)
        });
        assert_eq!(got, b"v", "killed at {calls} {n}");
    }
}
