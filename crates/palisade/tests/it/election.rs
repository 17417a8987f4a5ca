//! Elections across real processes.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Candidate, Cluster, code, eventually};

fn waiting(cluster: &Cluster, election: &str) -> u64 {
    let list = cluster.json(&["elect", "list"]);
    list["elections"]
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["election"] == election)
        .map_or(0, |e| e["waiting"].as_u64().unwrap())
}

#[test]
fn a_holder_killed_twenty_times_is_replaced_under_rising_tokens() {
    let cluster = Cluster::start();
    let start = |n: usize| cluster.candidate("e", &format!("c{n}"), &["--release-after", "0ms", "--ttl", "2s"]);
    let mut holder = start(0);
    let mut last = holder.next("granted");
    let mut standby = start(1);
    for n in 2..22 {
        eventually("the standby waits", || (waiting(&cluster, "e") == 1).then_some(()));
        holder.process.kill();
        let granted = standby.next("granted");
        assert!(granted["token"].as_u64() > last["token"].as_u64(), "{granted} after {last}");
        assert!(granted["seq"].as_u64() > last["seq"].as_u64(), "{granted} after {last}");
        last = granted;
        holder = std::mem::replace(&mut standby, start(n));
    }
    let leader = cluster.json(&["elect", "leader", "e"]);
    assert_eq!(leader["token"], last["token"]);
    assert_eq!(leader["candidate"], "c20");
}

#[test]
fn a_killed_store_leader_costs_no_session_and_changes_no_grant() {
    let mut cluster = Cluster::start();
    let keeps: Vec<Candidate> =
        (0..3).map(|n| cluster.candidate(&format!("keep-{n}"), "c", &["--ttl", "5s"])).collect();
    let releases: Vec<Candidate> = (0..3)
        .map(|n| cluster.candidate(&format!("release-{n}"), "c", &["--release-after", "0ms", "--ttl", "5s"]))
        .collect();
    let all: Vec<_> = keeps.iter().chain(&releases).collect();
    let granted: Vec<Value> = all.iter().map(|candidate| candidate.next("granted")).collect();
    for _ in 0..2 {
        let leader = cluster.store_leader();
        cluster.nodes[leader - 1].kill();
        eventually("another node leads the store", || (cluster.store_leader() != leader).then_some(()));
        for (candidate, grant) in all.iter().zip(&granted) {
            let now = cluster.json(&["elect", "leader", grant["election"].as_str().unwrap()]);
            assert_eq!(now["token"], grant["token"], "the grant changed");
            let confirmed = candidate.next("confirmed");
            assert_eq!(confirmed["token"], grant["token"], "confirmed under the same token");
        }
        cluster.restart(leader);
        eventually("the killed node is back", || {
            let status = cluster.json(&["cluster", "status"]);
            status["nodes"].as_array()?.iter().all(|node| node["healthy"] == true).then_some(())
        });
    }
    for candidate in &all {
        assert!(candidate.so_far().iter().all(|event| event["event"] != "lost"), "a session was lost");
    }
}

#[test]
fn a_candidate_told_to_stop_resigns_and_the_next_leads() {
    let cluster = Cluster::start();
    let mut first = cluster.candidate("e", "first", &["--ttl", "10s"]);
    first.next("granted");
    let second = cluster.candidate("e", "second", &["--ttl", "10s"]);
    eventually("the second waits", || (waiting(&cluster, "e") == 1).then_some(()));
    first.process.signal(Signal::SIGTERM);
    assert_eq!(code(first.process.wait()), 0);
    // Far below the TTL, or the bound would be meaningless: the resignation itself hands over.
    let granted = second.next("granted");
    assert!(granted["fence"].as_str().unwrap().starts_with("e:"));
}

#[test]
fn a_paused_holder_is_replaced_at_its_ttl_and_says_so_when_it_wakes() {
    let cluster = Cluster::start();
    let paused = cluster.candidate("e", "paused", &["--ttl", "500ms"]);
    let before = paused.next("granted");
    let second = cluster.candidate("e", "second", &["--ttl", "500ms"]);
    eventually("the second waits", || (waiting(&cluster, "e") == 1).then_some(()));
    paused.process.signal(Signal::SIGSTOP);
    let after = second.next("granted");
    assert!(after["token"].as_u64() > before["token"].as_u64());
    let fence = before["fence"].as_str().unwrap();
    let (exit, error) = cluster.refused(&["kv", "put", "k", "v", "--fence", fence]);
    assert_eq!((exit, error["kind"].as_str()), (3, Some("stale_token")));
    paused.process.signal(Signal::SIGCONT);
    assert_eq!(paused.next("lost")["token"], before["token"]);
}

#[test]
fn a_holder_that_is_asked_resigns_when_it_is_ready_and_campaigns_again() {
    let cluster = Cluster::start();
    let holder = cluster.candidate("e", "holder", &["--ttl", "10s"]);
    let first = holder.next("granted");
    let late = cluster.candidate("e", "late", &["--ttl", "10s"]);
    eventually("one waits", || (waiting(&cluster, "e") == 1).then_some(()));
    let later = cluster.candidate("e", "later", &["--ttl", "10s"]);
    eventually("two wait", || (waiting(&cluster, "e") == 2).then_some(()));

    let reply = cluster.json(&["elect", "transfer", "e", "--to", "later"]);
    assert_eq!((reply["requested"].as_bool(), reply["losing"].as_array().map(Vec::len)), (Some(true), Some(0)));
    let lost = holder.next("lost");
    assert_eq!((&lost["token"], lost["why"].as_str()), (&first["token"], Some("transferred")));
    let second = later.next("granted");
    assert!(second["token"].as_u64() > first["token"].as_u64());
    let history = cluster.json(&["elect", "history", "e"]);
    assert_eq!(history["reigns"][0]["why"], "transferred");

    // The end of its session, too: the answer says what it will lose, and it campaigns again with another.
    eventually("two wait", || (waiting(&cluster, "e") == 2).then_some(()));
    let token = second["token"].to_string();
    let reply = cluster.json(&["elect", "resign", "e", "--token", &token, "--end-session"]);
    assert_eq!(reply["losing"][0]["fence"], second["fence"]);
    assert_eq!(later.next("lost")["why"], "resigned");
    late.next("granted");
    eventually("it waits again", || (waiting(&cluster, "e") == 2).then_some(()));

    // By force: at once, and whoever it was is told by the store.
    let leader = cluster.json(&["elect", "leader", "e"]);
    let token = leader["token"].to_string();
    assert_eq!(cluster.json(&["elect", "resign", "e", "--token", &token, "--force"])["requested"], false);
    assert_eq!(late.next("lost")["why"], "removed");
    assert_eq!(cluster.json(&["elect", "resign", "e", "--token", &token, "--force"])["already"], true);
}

#[test]
fn an_administrator_withdraws_a_candidate_and_closes_a_session() {
    let cluster = Cluster::start();
    let holder = cluster.candidate("e", "holder", &["--ttl", "10s"]);
    holder.next("granted");
    let sessions = cluster.json(&["session", "list"]);
    let session = sessions["sessions"][0]["session"].to_string();
    assert_eq!(sessions["sessions"][0]["leaderships"], 1);
    let reply = cluster.json(&["session", "close", &session]);
    assert_eq!((reply["requested"].as_bool(), &reply["losing"][0]["election"]), (Some(true), &"e".into()));
    holder.next("lost");
    holder.next("granted");
    let reply = cluster.json(&["elect", "withdraw", "e", "--id", "holder", "--force"]);
    assert_eq!(reply["requested"], false);
    assert_eq!(holder.next("lost")["why"], "removed");
    let (exit, error) = cluster.refused(&["elect", "withdraw", "e", "--id", "nobody"]);
    assert_eq!((exit, error["kind"].as_str()), (3, Some("candidate_not_found")));
    let (exit, error) = cluster.refused(&["session", "close", &session]);
    assert_eq!((exit, error["kind"].as_str()), (3, Some("session_ended")));
}

#[test]
fn an_observer_goes_on_from_a_seq_and_is_told_of_a_gap() {
    let cluster = Cluster::start();
    let mut holder = cluster.candidate("e", "holder", &["--ttl", "10s"]);
    let granted = holder.next("granted");
    holder.process.signal(Signal::SIGTERM);
    assert_eq!(code(holder.process.wait()), 0);
    let all = cluster.observer_with("e", &["--from", "0"]);
    assert_eq!(all.next_of_any()["event"], "elected");
    assert_eq!(all.next_of_any()["event"], "vacant");
    let rest = cluster.observer_with("e", &["--from", &granted["seq"].to_string()]);
    assert_eq!(rest.next_of_any()["event"], "vacant", "exclusive, and no state first");
    let ahead = cluster.observer_with("e", &["--from", "1000000000"]);
    let gap = ahead.next_of_any();
    assert_eq!((gap["event"].as_str(), gap["why"].as_str()), (Some("gap"), Some("ahead")));
    assert_eq!(ahead.next_of_any()["event"], "state");
}
