//! The log of a cluster tells a failover as a story: a program reads its JSON lines and finds who led under which token, what
//! ended it, and who led next, with ids that fit together.

use serde_json::Value;

use crate::harness::{Cluster, eventually};

/// The lines of one node's log that are JSON, as `(message, fields)`.
fn lines(cluster: &Cluster, node: usize) -> Vec<(String, Value)> {
    let log = cluster.log(node);
    let parsed = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed
        .map(|line| (line["fields"]["message"].as_str().unwrap_or_default().to_owned(), line["fields"].clone()))
        .collect()
}

/// Waits for a line with this message that fits, in the log of any node; gives that node and the fields.
fn told(cluster: &Cluster, message: &str, fits: impl Fn(&Value) -> bool) -> (usize, Value) {
    eventually(&format!("somebody tells: {message}"), || {
        (1..=3).find_map(|node| {
            let found = lines(cluster, node).into_iter().find(|(told, fields)| told == message && fits(fields))?;
            Some((node, found.1))
        })
    })
}

#[test]
fn a_failover_is_told_as_a_story_with_ids_that_fit_together() {
    let mut cluster = Cluster::start_with(&["--log-format", "json"]);
    let release = ["--release-after", "0ms"];
    let mut first = cluster.candidate("billing", "a", &release);
    let granted = first.next("granted");
    let second = cluster.candidate("billing", "b", &release);
    eventually("the second stands", || {
        let sessions = cluster.json(&["session", "list"]);
        (sessions["sessions"].as_array()?.len() == 2).then_some(())
    });
    first.process.kill();
    let took_over = second.next("granted");

    // An election begins: nobody led before.
    let (told_by, begin) =
        told(&cluster, "a candidate leads", |it| it["election"] == "billing" && it["candidate"] == "a");
    assert_eq!((&begin["token"], &begin["seq"]), (&granted["token"], &granted["seq"]), "{begin}");
    assert_eq!((begin["why"].as_str(), begin["previous"].is_null()), (Some("vacant"), true), "{begin}");
    // The failover: the session that held it ended, because its connection broke, and by the same command another leads.
    let (node, ended) = told(&cluster, "a session ended", |it| it["session"] == begin["session"]);
    let (_, end) = told(&cluster, "a candidate leads", |it| it["election"] == "billing" && it["candidate"] == "b");
    assert_eq!((node, &ended["why"], &end["why"]), (told_by, &"disconnected".into(), &"disconnected".into()));
    assert_eq!((&end["previous"], &end["token"]), (&begin["token"], &took_over["token"]), "{end}");
    assert_eq!((&ended["seq"], &ended["cluster"], &ended["term"]), (&end["seq"], &begin["cluster"], &begin["term"]));
    assert!(end["seq"].as_u64() > begin["seq"].as_u64() && end["session"] != begin["session"], "{begin} {end}");
    assert_eq!(end["node"], told_by, "{end}");
    // Each event is told by one node.
    let tellers = (1..=3).filter(|node| {
        lines(&cluster, *node).iter().any(|(message, it)| message == "a candidate leads" && it["token"] == end["token"])
    });
    assert_eq!(tellers.collect::<Vec<_>>(), [told_by]);

    store_failover(&mut cluster, told_by, &begin);
}

/// The store leader dies: another leads in a later term, of the same cluster, and goes on with the story.
fn store_failover(cluster: &mut Cluster, dead: usize, begin: &Value) {
    let (_, reign) =
        told(cluster, "store leadership", |it| it["role"] == "leader" && it["ready"] == true && it["node"] == dead);
    cluster.nodes[dead - 1].kill();
    let later = |it: &Value| it["term"].as_u64() > begin["term"].as_u64();
    let (next, leads) =
        told(cluster, "store leadership", |it| it["role"] == "leader" && it["ready"] == true && later(it));
    assert_ne!(next, dead);
    assert_eq!((&leads["cluster"], &leads["store_leader"]), (&begin["cluster"], &Value::from(next)), "{leads}");
    assert!(leads["address"] == cluster.addresses[next - 1] && reign["term"] == begin["term"], "{leads} {reign}");
    let (_, follows) =
        told(cluster, "store leadership", |it| it["store_leader"] == next && it["node"] != next && later(it));
    assert_eq!((&follows["role"], &follows["term"]), (&"follower".into(), &leads["term"]), "{follows}");
    let third = cluster.candidate("shipping", "c", &[]);
    let granted = third.next("granted");
    let (node, told) = told(cluster, "a candidate leads", |it| it["election"] == "shipping");
    assert_eq!((node, &told["token"], &told["term"]), (next, &granted["token"], &leads["term"]), "{told}");
    // The members were told at the start.
    let voters = lines(cluster, next)
        .iter()
        .filter(|(told, it)| told == "a member of the cluster" && it["change"] == "voter")
        .count();
    assert_eq!(voters, 3);
}

#[test]
fn a_line_per_request_is_no_news() {
    let cluster = Cluster::start_with(&["--log-format", "json"]);
    let before: usize = (1..=3).map(|node| lines(&cluster, node).len()).sum();
    for number in 0..20 {
        assert!(cluster.run(&["kv", "put", "k", &number.to_string()]).status.success());
    }
    let after: usize = (1..=3).map(|node| lines(&cluster, node).len()).sum();
    assert!(after - before < 20, "{} lines for 20 writes", after - before);
}
