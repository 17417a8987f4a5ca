//! The containers: `docker-compose.yml` as the README has it. Brings everything up, kills the container of the leading JobManager
//! and that of the store leader, and sees the failover. Runs where there is a Docker engine and the image was built.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::skip::{has, skip};

/// Containers start slowly on small machines.
const LIMIT: Duration = Duration::from_secs(90);
/// Bounds one command to the engine, in seconds, so that a hanging engine cannot hang the test.
const COMMAND_SECONDS: &str = "120";
/// Lines of each of the two input files; each line holds each word once.
const LINES: usize = 5_000;

struct Compose {
    program: Vec<&'static str>,
    /// Of this process alone: what another run or another project has is never touched.
    project: String,
    input: PathBuf,
}

/// A command to the engine that ends in any case.
fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", COMMAND_SECONDS, program]);
    command
}

impl Compose {
    fn find() -> Option<Compose> {
        let plugin =
            Command::new("docker").args(["compose", "version"]).output().is_ok_and(|output| output.status.success());
        let program = if plugin { vec!["docker", "compose"] } else { vec!["docker-compose"] };
        let project = format!("palisade-smoke-{}", std::process::id());
        let input = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&project);
        (plugin || has("docker-compose", "version")).then_some(Compose { program, project, input })
    }

    /// With ports on the host that are free: nothing else can be in the way.
    fn run(&self, args: &[&str]) -> Output {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut command = bounded(self.program[0]);
        command.args(&self.program[1..]).args(["-p", &self.project]).args(args).current_dir(root);
        command.env("PALISADE_INPUT", &self.input);
        command.envs(["PALISADE_PORT_1", "PALISADE_PORT_2", "PALISADE_PORT_3"].map(|port| (port, "")));
        command.output().unwrap()
    }

    fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `palisade ARGS` inside a service's container.
    fn palisade(&self, service: &str, args: &[&str]) -> Option<Value> {
        self.palisade_reading(service, args, "")
    }

    fn palisade_reading(&self, service: &str, args: &[&str], stdin: &str) -> Option<Value> {
        let mut command = bounded("docker");
        command.args(["exec", "-i", &self.container(service), "/palisade"]).args(args);
        command.args(["--endpoints", "node-1:7070,node-2:7070,node-3:7070", "--output", "json", "--timeout", "2s"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // A container that ended does not read; its output says so.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        serde_json::from_slice(&child.wait_with_output().unwrap().stdout).ok()
    }

    fn container(&self, service: &str) -> String {
        self.must(&["ps", "-q", service]).trim().to_owned()
    }

    fn kill(&self, service: &str) {
        let id = self.container(service);
        assert!(!id.is_empty(), "{service} has no container");
        assert!(bounded("docker").args(["kill", &id]).output().unwrap().status.success());
    }

    fn write_input(&self) {
        std::fs::create_dir_all(&self.input).unwrap();
        for file in ["one.txt", "two.txt"] {
            std::fs::write(self.input.join(file), "alpha beta gamma\n".repeat(LINES)).unwrap();
        }
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        let _ = self.run(&["down", "-v", "--timeout", "1"]);
        let _ = std::fs::remove_dir_all(&self.input);
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
    compose.write_input();
    compose.must(&["up", "-d"]);
    let leader = |from: &str| compose.palisade(from, &["elect", "leader", "jobmanager"]);
    let first = eventually("a JobManager leads", || leader("node-1").filter(|leader| leader["value"]["address"] != ""));
    eventually("every container is healthy", || {
        let ids = compose.must(&["ps", "-q"]);
        let healthy = ids.split_whitespace().filter(|id| {
            let output = bounded("docker").args(["inspect", "-f", "{{.State.Health.Status}}", id]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim() == "healthy"
        });
        (healthy.count() == 7).then_some(())
    });

    // Slow enough to be running through both kills; submitted from a worker that is not killed.
    let spec = r#"{"name":"words","kind":"word_count","input":"/input","parallelism":2,"checkpoint_interval_ms":200,"source_bytes_per_second":15000}"#;
    let job = compose.palisade_reading("te-1", &["job", "submit", "/dev/stdin"], spec).expect("the job is accepted");
    let job = job["id"].as_str().unwrap();
    let job_status = || compose.palisade("te-1", &["job", "status", job]);
    eventually("a checkpoint is complete", || job_status().filter(|status| status["last_checkpoint"].is_u64()));

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

    let finished = eventually("the job finishes", || job_status().filter(|status| status["state"] == "finished"));
    assert!(finished["restored_checkpoint"].is_u64(), "the new leader takes the job up: {finished}");
    let result = compose.palisade("te-1", &["job", "result", job]).expect("a finished job has a result");
    let words = result["words"].as_array().unwrap();
    let counts: Vec<_> =
        words.iter().map(|row| (row["word"].as_str().unwrap(), row["count"].as_u64().unwrap())).collect();
    let each = 2 * LINES as u64;
    assert_eq!(counts, [("alpha", each), ("beta", each), ("gamma", each)]);
}
