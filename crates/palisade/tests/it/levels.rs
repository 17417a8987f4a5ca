//! An upgrade from outside: real processes of two versions, one after the other, while somebody writes; then the level is raised, and
//! no older program gets on. A process takes itself for one of another version by `PALISADE_LEVEL`, which only builds with planted bugs
//! heed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use crate::harness::{Cluster, code, eventually, palisade};
use crate::skip::skip;

fn is_of(cluster: &mut Cluster, level: u32) {
    cluster.env = vec![("PALISADE_LEVEL", level.to_string())];
}

#[test]
fn a_cluster_is_upgraded_under_load_and_a_downgrade_after_raising_the_level_is_refused() {
    let name = "a_cluster_is_upgraded_under_load_and_a_downgrade_after_raising_the_level_is_refused";
    if !cfg!(feature = "planted") {
        return skip(name, "planted", "this build has no other version to be");
    }
    let mut cluster = Cluster::at(crate::harness::free_addresses(3));
    is_of(&mut cluster, 1);
    cluster.start_nodes();
    cluster.wait_until_serving();
    let stop = Arc::<AtomicBool>::default();
    let (endpoints, end) = (cluster.endpoints(), Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        let mut count = 0;
        while !end.load(Ordering::Acquire) {
            let put = ["kv", "put", &format!("k{count}"), "v", "--timeout", "20s", "--endpoints", &endpoints];
            let output = palisade().args(put).output().unwrap();
            // Without a session an outcome may be unknown, when its node ends; nothing else may be.
            let done = matches!(code(output.status), 0 | 4);
            assert!(done, "{}", String::from_utf8_lossy(&output.stderr));
            count += 1;
        }
        count
    });
    is_of(&mut cluster, 2);
    for id in 1..=3 {
        let (code_, refused) = cluster.refused(&["cluster", "raise-level", "2"]);
        assert_eq!((code_, &refused["kind"]), (3, &"level".into()), "{refused}");
        cluster.nodes[id - 1].signal(Signal::SIGTERM);
        assert_eq!(code(cluster.nodes[id - 1].wait()), 0, "{}", cluster.log(id));
        cluster.restart(id);
        eventually("it serves", || {
            let health = palisade().args(["health", &cluster.addresses[id - 1]]).output().unwrap();
            health.status.success().then_some(())
        });
    }
    let status = cluster.json(&["cluster", "status"]);
    assert_eq!(status["level"], 1);
    let knows: Vec<_> = status["nodes"].as_array().unwrap().iter().map(|node| node["known_level"].clone()).collect();
    assert_eq!(knows, [2, 2, 2]);
    let raised = eventually("all answer", || {
        let output = cluster.run(&["cluster", "raise-level", "--output", "json"]);
        output.status.success().then(|| serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap())
    });
    assert_eq!((&raised["level"], &raised["before"]), (&2.into(), &1.into()));

    // Back again: refused in words, and the others go on.
    is_of(&mut cluster, 1);
    eventually("all have applied it", || {
        let at_two = |address: &String| {
            let status = palisade().args(["cluster", "status", "--output", "json", "--endpoints", address]).output();
            let status = serde_json::from_slice::<serde_json::Value>(&status.unwrap().stdout).unwrap_or_default();
            status["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(|node| node["level"] == 2))
        };
        cluster.addresses.iter().all(at_two).then_some(())
    });
    cluster.nodes[2].signal(Signal::SIGTERM);
    cluster.nodes[2].wait();
    cluster.restart(3);
    assert_eq!(code(cluster.nodes[2].wait()), 1);
    assert!(cluster.log(3).contains("downgrade refused"), "{}", cluster.log(3));
    is_of(&mut cluster, 2);
    cluster.restart(3);
    cluster.json(&["kv", "put", "after", "v", "--timeout", "20s"]);
    stop.store(true, Ordering::Release);
    assert!(writer.join().unwrap() > 10);

    // Nor is a backup of it restored by an older program, as the command line here is.
    let backup = cluster.dir.path().join("b");
    let backup = backup.to_str().unwrap();
    cluster.json(&["cluster", "snapshot", "save", backup]);
    let data = cluster.dir.path().join("d");
    let (code_, refused) =
        cluster.refused(&["cluster", "snapshot", "restore", backup, "--data", data.to_str().unwrap()]);
    assert_eq!(code_, 1);
    let words = "downgrade refused: this data was written at level 2, this program knows levels up to 1";
    assert!(refused["message"].as_str().unwrap().contains(words), "{refused}");

    // And where one that knows it has restored it, an older one leaves the folder as it is.
    let restore = ["cluster", "snapshot", "restore", backup, "--data", data.to_str().unwrap()];
    let restored = palisade().env("PALISADE_LEVEL", "2").args(restore).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let kept = || {
        let snapshots = std::fs::read_dir(data.join("snapshots")).unwrap().map(|entry| entry.unwrap().path());
        snapshots.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = kept();
    let serve = ["server", "--id", "1", "--listen", "127.0.0.1:0", "--advertise", "127.0.0.1:1"];
    let mut older = palisade();
    older.args(serve).args(["--initial", "1=127.0.0.1:1", "--data"]).arg(&data).stdin(std::process::Stdio::null());
    let refused = older.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(code(refused.status), 1, "{said}");
    assert!(said.contains("downgrade refused: the backup in this folder was written at level 2"), "{said}");
    assert_eq!(kept(), before);
}
