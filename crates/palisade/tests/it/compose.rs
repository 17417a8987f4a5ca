//! The containers: `docker-compose.yml` as the README has it. Brings everything up, kills the container of the leading JobManager
//! and that of the store leader, and sees the failover. Runs where there is a Docker engine and the image was built.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::skip::{has, skip};

/// Containers start slowly on small machines.
const LIMIT: Duration = Duration::from_secs(90);
const PROJECT: &str = "palisade-smoke";

struct Compose {
    program: Vec<&'static str>,
}

impl Compose {
    fn find() -> Option<Compose> {
        let plugin =
            Command::new("docker").args(["compose", "version"]).output().is_ok_and(|output| output.status.success());
        let program = if plugin { vec!["docker", "compose"] } else { vec!["docker-compose"] };
        (plugin || has("docker-compose", "version")).then_some(Compose { program })
    }

    fn run(&self, args: &[&str]) -> Output {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut command = Command::new(self.program[0]);
        command.args(&self.program[1..]).args(["-p", PROJECT]).args(args).current_dir(root).output().unwrap()
    }

    fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `palisade ARGS` inside a service's container.
    fn palisade(&self, service: &str, args: &[&str]) -> Option<Value> {
        let endpoints = ["--endpoints", "node-1:7070,node-2:7070,node-3:7070", "--output", "json", "--timeout", "2s"];
        let output = self.run(&[&["exec", "-T", service, "/palisade"], args, &endpoints].concat());
        serde_json::from_slice(&output.stdout).ok()
    }

    fn container(&self, service: &str) -> String {
        self.must(&["ps", "-q", service]).trim().to_owned()
    }

    fn kill(&self, service: &str) {
        let id = self.container(service);
        assert!(!id.is_empty(), "{service} has no container");
        assert!(Command::new("docker").args(["kill", &id]).output().unwrap().status.success());
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        let _ = self.run(&["down", "-v", "--timeout", "1"]);
    }
}

fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < until, "did not come about within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn compose_fails_over_when_containers_are_killed() {
    let name = "compose_fails_over_when_containers_are_killed";
    if std::env::var("PALISADE_CONTAINERS").is_err() {
        return skip(
            name,
            "containers",
            "set PALISADE_CONTAINERS=1 after building the image (`.ci/run image containers`)",
        );
    }
    if !has("docker", "info") {
        return skip(name, "docker", "there is no Docker engine");
    }
    let Some(compose) = Compose::find() else {
        return skip(name, "docker", "there is neither `docker compose` nor docker-compose");
    };
    let image = Command::new("docker").args(["image", "inspect", "palisade:local"]).output().unwrap();
    if !image.status.success() {
        return skip(name, "docker", "the image palisade:local was not built");
    }
    compose.run(&["down", "-v", "--timeout", "1"]);
    compose.must(&["up", "-d"]);
    let leader = |from: &str| compose.palisade(from, &["elect", "leader", "jobmanager"]);
    let first = eventually("a JobManager leads", || leader("node-1").filter(|leader| leader["value"]["address"] != ""));
    eventually("every container is healthy", || {
        let ids = compose.must(&["ps", "-q"]);
        let healthy = ids.split_whitespace().filter(|id| {
            let output =
                Command::new("docker").args(["inspect", "-f", "{{.State.Health.Status}}", id]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim() == "healthy"
        });
        (healthy.count() == 7).then_some(())
    });
    compose.kill(first["candidate"].as_str().unwrap());
    let second = eventually("another JobManager leads", || {
        leader("node-1").filter(|leader| leader["token"].as_u64() > first["token"].as_u64())
    });
    assert_ne!(second["candidate"], first["candidate"]);

    let status = compose.palisade("node-1", &["cluster", "status"]).unwrap();
    let store_leader = status["store_leader"].as_u64().unwrap();
    compose.kill(&format!("node-{store_leader}"));
    let other = format!("node-{}", store_leader % 3 + 1);
    eventually("another node leads the store", || {
        let status = compose.palisade(&other, &["cluster", "status"])?;
        status["store_leader"].as_u64().filter(|leader| *leader != store_leader)
    });
    let third = eventually("the election is answered", || leader(&other));
    assert_eq!(third["token"], second["token"], "a store failover changes no grant");
    assert!(compose.palisade(&other, &["kv", "put", "k", "v"]).is_some_and(|put| put["key"] == "k"));
}
