//! What `--metrics` serves: numbers that move with what happens, `/healthz` and `/readyz`, on nodes, JobManagers and
//! TaskExecutors.

use std::collections::BTreeMap;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::harness::{Cluster, Running, eventually, http, palisade, said};

/// A page as samples: name and labels as they stand there, and the value.
pub(crate) fn page(address: &str) -> BTreeMap<String, f64> {
    let (status, body) = http(address, "/metrics").expect("metrics are served");
    assert_eq!(status, 200, "{body}");
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// One sample of a page; 0 if it is not there, which a test of its value notices.
fn sample(page: &BTreeMap<String, f64>, name: &str) -> f64 {
    *page.get(name).unwrap_or_else(|| panic!("{name} is not on the page"))
}

#[test]
fn a_node_tells_in_numbers_what_happens() {
    let mut cluster = Cluster::start_with(&["--metrics", "127.0.0.1:0"]);
    let leader = cluster.store_leader();
    let address = cluster.metrics(leader);
    let before = page(&address);
    for number in 0..10 {
        assert!(cluster.run(&["kv", "put", "k", &number.to_string()]).status.success());
    }
    let fenced = cluster.refused(&["kv", "put", "k", "x", "--fence", "nobody:7"]);
    assert_eq!(fenced.1["kind"], "stale_token");
    let mut first = cluster.candidate("e", "a", &["--release-after", "0ms"]);
    first.next("granted");
    let watcher = cluster.watcher(&["k"]);
    let observer = cluster.observer("e");
    observer.next_of_any();
    let second = cluster.candidate("e", "b", &["--release-after", "0ms"]);
    eventually("both sessions live", || (sample(&page(&address), "palisade_sessions") == 2.0).then_some(()));
    first.process.kill();
    second.next("granted");
    eventually("the watcher watches", || (sample(&page(&address), "palisade_watchers") == 1.0).then_some(()));

    let after = page(&address);
    assert_eq!((sample(&after, "palisade_level"), sample(&after, "palisade_known_level")), (1.0, 1.0));
    let rose = |name: &str| sample(&after, name) - sample(&before, name);
    assert!(rose("palisade_commands_applied_total") >= 15.0);
    assert_eq!(rose("palisade_commands_refused_total"), 1.0, "{}", cluster.log(leader));
    assert_eq!(rose("palisade_grants_total{after=\"vacant\"}"), 1.0);
    assert_eq!(rose("palisade_grants_total{after=\"disconnected\"}"), 1.0);
    assert_eq!(rose("palisade_sessions_ended_total{why=\"disconnected\"}"), 1.0);
    assert_eq!(rose("palisade_sessions_opened_total"), 2.0);
    assert_eq!(rose("palisade_refusals_total{code=\"failed_precondition\",reason=\"stale_token\"}"), 1.0);
    // Each command was proposed here, committed, applied and synced.
    for histogram in
        ["palisade_proposal", "palisade_commit", "palisade_apply", "palisade_log_sync", "palisade_log_write"]
    {
        assert!(rose(&format!("{histogram}_seconds_count")) >= 10.0, "{histogram}");
        assert!(sample(&after, &format!("{histogram}_seconds_sum")) > 0.0, "{histogram}");
    }
    assert!(sample(&after, "palisade_observers") == 1.0 && sample(&after, "palisade_session_streams") >= 1.0);
    assert!(sample(&after, "palisade_raft_leads") == 1.0 && sample(&after, "palisade_raft_voters") == 3.0);
    assert_eq!(sample(&after, "palisade_raft_leader"), leader as f64);
    assert!(sample(&after, "palisade_raft_applied_index") >= sample(&before, "palisade_raft_applied_index") + 10.0);
    let followers = (1..=3).filter(|id| *id != leader);
    for follower in followers {
        sample(&after, &format!("palisade_raft_follower_lag_entries{{follower=\"{follower}\"}}"));
        let other = page(&cluster.metrics(follower));
        assert_eq!(sample(&other, "palisade_raft_leader"), leader as f64);
        assert_eq!(sample(&other, "palisade_raft_leads"), 0.0);
    }
    for name in
        ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds", "palisade_connections"]
    {
        assert!(sample(&after, name) > 0.0, "{name}");
    }
    for name in ["palisade_disk_free_bytes{folder=\"data\"}", "palisade_folder_bytes{folder=\"data\"}"] {
        assert!(sample(&after, name) > 0.0, "{name}");
    }
    drop(watcher);
    a_restart_counts_anew(&mut cluster, leader);
}

/// The log is applied again at a start, and that is no news.
fn a_restart_counts_anew(cluster: &mut Cluster, leader: usize) {
    let other = 1 + leader % 3;
    cluster.nodes[other - 1].kill();
    let before = cluster.metrics(other);
    cluster.restart(other);
    let address =
        eventually("it says where its metrics are", || Some(cluster.metrics(other)).filter(|now| *now != before));
    eventually("it is ready", || (http(&address, "/readyz")?.0 == 200).then_some(()));
    eventually("it has caught up", || (sample(&page(&address), "palisade_elections") == 1.0).then_some(()));
    let again = sample(&page(&address), "palisade_grants_total{after=\"vacant\"}");
    assert_eq!(again, 0.0, "grants of before are counted again");
}

#[test]
fn a_node_is_ready_only_while_it_can_name_the_store_leader() {
    let mut cluster = Cluster::start_with(&["--metrics", "127.0.0.1:0"]);
    let address = cluster.metrics(1);
    assert_eq!(http(&address, "/healthz"), Some((200, "alive\n".to_owned())));
    eventually("it is ready", || (http(&address, "/readyz")? == (200, "ready\n".to_owned())).then_some(()));
    assert_eq!(http(&address, "/nowhere").unwrap().0, 404);
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let why = eventually("it is not ready", || http(&address, "/readyz").filter(|(status, _)| *status == 503));
    assert!(why.1.contains("no store leader"), "{why:?}");
    assert_eq!(http(&address, "/healthz").unwrap().0, 200, "it is alive all the same");
    eventually("its page says so", || (sample(&page(&address), "palisade_healthy") == 0.0).then_some(()));
    cluster.restart(2);
    eventually("it is ready again", || (http(&address, "/readyz")?.0 == 200).then_some(()));
}

/// A JobManager or TaskExecutor, and where it listens and serves its metrics.
pub(crate) struct Worker {
    pub(crate) process: Running,
    pub(crate) address: String,
    pub(crate) metrics: String,
}

impl Worker {
    pub(crate) fn start(cluster: &Cluster, role: &str, id: &str) -> Worker {
        let path = |name: &str| cluster.dir.path().join(name).to_str().unwrap().to_owned();
        let log = cluster.dir.path().join(format!("{id}.log"));
        let mut command = palisade();
        command.args([role, "--id", id, "--storage", &path("storage"), "--endpoints", &cluster.endpoints()]);
        command.args(["--metrics", "127.0.0.1:0"]);
        if role == "taskexecutor" {
            command.args(["--data", &path(id)]);
        }
        let stderr = std::fs::File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        let process = Running(child);
        let hear = |words: &str| {
            eventually(&format!("{id} says where it{words}"), || said(&std::fs::read_to_string(&log).ok()?, words))
        };
        Worker { process, address: hear(" listens on "), metrics: hear(" serves metrics on ") }
    }
}

#[test]
fn job_managers_and_task_executors_tell_who_leads_and_what_their_fences_refused() {
    let cluster = Cluster::start();
    let mut managers = [Worker::start(&cluster, "jobmanager", "jm-1"), Worker::start(&cluster, "jobmanager", "jm-2")];
    let executor = Worker::start(&cluster, "taskexecutor", "te-1");
    eventually("the TaskExecutor is registered", || (http(&executor.metrics, "/readyz")?.0 == 200).then_some(()));
    let leads = |worker: &Worker| sample(&page(&worker.metrics), "palisade_leads") == 1.0;
    let leader = eventually("a JobManager leads", || managers.iter().position(leads));
    eventually("its page knows the TaskExecutor", || {
        let page = page(&managers[leader].metrics);
        (sample(&page, "palisade_task_executors") == 1.0 && sample(&page, "palisade_slots") == 2.0).then_some(())
    });
    let token = sample(&page(&managers[leader].metrics), "palisade_leader_token");
    let answered = page(&managers[leader].metrics);
    let admitted = answered.iter().find(|(name, _)| name.contains("resourcemanager") && name.contains("admitted"));
    assert!(admitted.is_some_and(|(_, count)| *count > 0.0), "{answered:?}");
    for worker in &managers {
        assert_eq!(http(&worker.metrics, "/readyz").unwrap().0, 200, "a standby is ready to take over");
        assert_eq!(sample(&page(&worker.metrics), "palisade_jobs{state=\"running\"}"), 0.0);
    }
    managers[leader].process.signal(Signal::SIGTERM);
    assert!(managers[leader].process.wait().success());
    let other = &managers[1 - leader];
    eventually("the other leads", || leads(other).then_some(()));
    eventually("the TaskExecutor has followed", || {
        let page = page(&executor.metrics);
        let now = sample(&page, "palisade_leader_token");
        (now > token && sample(&page, "palisade_registered") == 1.0).then_some(())
    });
    assert_eq!(sample(&page(&other.metrics), "palisade_leaderships_total"), 1.0);
}
