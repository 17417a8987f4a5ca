//! A real Prometheus of the Debian packages reads three real nodes; its own checker accepts our pages and our alarms, and its
//! unit tests raise each alarm.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Cluster, Running, eventually, free_addresses, http};
use crate::metrics::Worker;
use crate::skip::{has, skip};

fn crate_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Runs promtool; what it says if it is not content.
fn promtool(args: &[&str], input: &str) -> Result<(), String> {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn a_real_prometheus_reads_the_nodes_and_answers_a_query() {
    let name = "a_real_prometheus_reads_the_nodes_and_answers_a_query";
    if !has("prometheus", "--version") || !has("promtool", "--version") {
        return skip(name, "prometheus", "the Debian package prometheus is not installed");
    }
    let cluster = Cluster::start_with(&["--metrics", "127.0.0.1:0"]);
    let nodes: Vec<_> = (1..=3).map(|id| cluster.metrics(id)).collect();
    let workers = [Worker::start(&cluster, "jobmanager", "jm"), Worker::start(&cluster, "taskexecutor", "te")];
    for address in nodes.iter().chain(workers.iter().map(|worker| &worker.metrics)) {
        let (_, page) = http(address, "/metrics").unwrap();
        promtool(&["check", "metrics"], &page).unwrap_or_else(|said| panic!("{said}\n{page}"));
    }
    assert!(promtool(&["check", "metrics"], "a_total 1\na_total 2\n").is_err(), "the checker finds what is wrong");

    let config = cluster.dir.path().join("prometheus.yml");
    let targets = |addresses: &[String]| format!("['{}']", addresses.join("','"));
    let text = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\nscrape_configs:\n\
- {{ job_name: palisade, static_configs: [{{ targets: {} }}] }}\n- {{ job_name: workers, static_configs: [{{ targets: {} }}] }}\n",
        crate_file("alerts.yml").display(),
        targets(&nodes),
        targets(&workers.each_ref().map(|worker| worker.metrics.clone())),
    );
    std::fs::write(&config, text).unwrap();
    let address = free_addresses(1).remove(0);
    let log = std::fs::File::create(cluster.dir.path().join("prometheus.log")).unwrap();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", cluster.dir.path().join("tsdb").display()));
    command.arg(format!("--web.listen-address={address}"));
    let _prometheus = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());

    let query = |query: &str| -> Option<f64> {
        let (_, body) = http(&address, &format!("/api/v1/query?query={query}"))?;
        let answer: Value = serde_json::from_str(&body).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    };
    eventually("all five are read", || (query("sum(up)")? == 5.0).then_some(()));
    eventually("one node of three leads the store", || {
        (query("sum(palisade_raft_leads)")? == 1.0 && query("max(palisade_raft_voters)")? == 3.0).then_some(())
    });
    eventually("a histogram was read", || (query("sum(palisade_log_sync_seconds_count)")? > 0.0).then_some(()));
    eventually("the alarms were loaded and are silent", || {
        let (_, body) = http(&address, "/api/v1/rules?type=alert")?;
        let answer: Value = serde_json::from_str(&body).ok()?;
        let groups = answer["data"]["groups"].as_array()?;
        let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array()).flatten().collect();
        let sound = rules.iter().all(|rule| rule["health"] == "ok" && rule["state"] != "firing");
        (rules.len() == alarms().len() && sound).then_some(())
    });
}

/// The names of all alarms.
fn alarms() -> BTreeSet<String> {
    let text = std::fs::read_to_string(crate_file("alerts.yml")).unwrap();
    text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ").map(str::to_owned)).collect()
}

#[test]
fn each_alarm_is_raised_by_what_it_is_about_and_explained_to_the_operator() {
    let name = "each_alarm_is_raised_by_what_it_is_about_and_explained_to_the_operator";
    let alarms = alarms();
    assert!(alarms.len() > 15, "{alarms:?}");
    let page = std::fs::read_to_string(crate_file("OPERATING.md")).unwrap();
    let tests = std::fs::read_to_string(crate_file("testdata/alerts_test.yml")).unwrap();
    for alarm in &alarms {
        assert!(page.contains(&format!("**{alarm}**")), "OPERATING.md does not explain {alarm}");
        assert!(tests.contains(&format!("- name: {alarm}\n")), "no test raises {alarm}");
    }
    if !has("promtool", "--version") {
        return skip(name, "prometheus", "the Debian package prometheus is not installed");
    }
    let (rules, tests) = (crate_file("alerts.yml"), crate_file("testdata/alerts_test.yml"));
    promtool(&["check", "rules", rules.to_str().unwrap()], "").unwrap();
    promtool(&["test", "rules", tests.to_str().unwrap()], "").unwrap();
}
