//! Failovers of the store, from outside: nobody is dropped who lives, and who is dead is replaced when the time comes.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Candidate, Cluster, eventually};

fn waits(cluster: &Cluster, election: &str) {
    eventually("a candidate waits", || {
        let elections = cluster.json(&["elect", "list"]);
        let found = elections["elections"].as_array()?.iter().find(|it| it["election"] == election)?;
        (found["waiting"] == 1).then_some(())
    });
}

/// Every one of them leads under the token that it was granted.
fn all_lead(cluster: &Cluster, granted: &[Value]) {
    for grant in granted {
        let now = cluster.json(&["elect", "leader", grant["election"].as_str().unwrap()]);
        assert_eq!(now["token"], grant["token"], "the grant changed");
    }
}

fn nobody_lost(candidates: &[Candidate]) {
    for candidate in candidates {
        let told = candidate.so_far();
        assert!(told.iter().all(|event| event["event"] != "lost"), "{told:?}");
    }
}

fn all_healthy(cluster: &Cluster) {
    eventually("all nodes are healthy", || {
        let status = cluster.json(&["cluster", "status"]);
        status["nodes"].as_array()?.iter().all(|node| node["healthy"] == true).then_some(())
    });
}

#[test]
fn a_paused_store_leader_comes_back_and_neither_renews_nor_expires_anybody() {
    let cluster = Cluster::start();
    let holders: Vec<Candidate> = [("keep-1", "--ttl=3s"), ("keep-2", "--ttl=8s")]
        .map(|(election, ttl)| cluster.candidate(election, "a", &[ttl]))
        .into_iter()
        .chain([cluster.candidate("release", "a", &["--release-after", "0ms", "--ttl", "8s"])])
        .collect();
    let granted: Vec<Value> = holders.iter().map(|holder| holder.next("granted")).collect();
    let dying = cluster.candidate("dying", "a", &["--ttl", "2s"]);
    dying.next("granted");
    let heir = cluster.candidate("dying", "b", &["--ttl", "8s"]);
    waits(&cluster, "dying");

    let paused = cluster.store_leader();
    cluster.nodes[paused - 1].signal(Signal::SIGSTOP);
    let next = eventually("another node leads the store", || Some(cluster.store_leader()).filter(|it| *it != paused));
    for (holder, grant) in holders.iter().zip(&granted) {
        assert_eq!(holder.next("confirmed")["token"], grant["token"], "confirmed under the same token");
    }
    all_lead(&cluster, &granted);
    // It renewed this one until it was paused; what it believes of it when it wakes is out of date.
    dying.process.signal(Signal::SIGSTOP);
    heir.next("granted");

    cluster.nodes[paused - 1].signal(Signal::SIGCONT);
    all_healthy(&cluster);
    assert_eq!(cluster.store_leader(), next, "it follows");
    // A TTL passes, as a rival sees who waits for a holder that is paused now.
    let clock = cluster.candidate("clock", "a", &["--ttl", "3s"]);
    clock.next("granted");
    let watcher = cluster.candidate("clock", "b", &["--ttl", "8s"]);
    waits(&cluster, "clock");
    clock.process.signal(Signal::SIGSTOP);
    watcher.next("granted");
    all_lead(&cluster, &granted);
    nobody_lost(&holders);
    assert_eq!(cluster.json(&["elect", "leader", "dying"])["candidate"], "b", "nobody renewed the dead one");
}

#[test]
fn who_dies_with_the_store_leader_is_replaced_after_the_window_and_who_lives_is_not() {
    let mut cluster = Cluster::start();
    let released = ["--release-after", "0ms", "--ttl", "60s"];
    let mut dying = cluster.candidate("dying", "a", &released);
    dying.next("granted");
    let heir = cluster.candidate("dying", "b", &["--ttl", "60s"]);
    waits(&cluster, "dying");
    let living = [cluster.candidate("living", "a", &released)];
    let granted = [living[0].next("granted")];

    let leader = cluster.store_leader();
    let began = Instant::now();
    cluster.nodes[leader - 1].kill();
    dying.process.kill();
    heir.next("granted");
    assert!(began.elapsed() >= Duration::from_secs(3), "a new store leader cannot know whose fault a break was");
    all_lead(&cluster, &granted);
    nobody_lost(&living);
}

#[test]
fn two_of_three_nodes_die_and_come_back_and_nobody_loses_what_they_held() {
    let mut cluster = Cluster::start();
    let holders: Vec<Candidate> = vec![
        cluster.candidate("keep", "a", &["--ttl", "25s"]),
        cluster.candidate("release", "a", &["--release-after", "20s", "--ttl", "25s"]),
    ];
    let granted: Vec<Value> = holders.iter().map(|holder| holder.next("granted")).collect();
    let leader = cluster.store_leader();
    let other = leader % 3 + 1;
    cluster.nodes[leader - 1].kill();
    cluster.nodes[other - 1].kill();
    for holder in &holders {
        holder.next("suspect");
    }
    cluster.restart(leader);
    cluster.restart(other);
    for (holder, grant) in holders.iter().zip(&granted) {
        assert_eq!(holder.next("confirmed")["token"], grant["token"], "confirmed under the same token");
    }
    all_healthy(&cluster);
    all_lead(&cluster, &granted);
    nobody_lost(&holders);
}
