//! Containers of the project's own `docker-compose.yml`: an image from scratch with the static binary and nothing else. They are
//! killed, paused and cut off by the engine. Everything is in a project of this process alone, and goes with it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::net::Proxies;
use crate::processes::{Spec, tool};
use crate::targets::Shape;

/// The image that `.ci/run image` builds.
const IMAGE: &str = "palisade:local";
const PORT: u16 = 7070;
/// What the file has.
pub(crate) const SHAPE: Shape = Shape { nodes: 3, jobmanagers: 2, taskexecutors: 2 };
pub(crate) const ENDPOINTS: &str = "node-1:7070,node-2:7070,node-3:7070";

/// A project that is up; taken down when it is dropped.
#[derive(Debug)]
pub(crate) struct Compose {
    /// `docker compose`, or `docker-compose`.
    program: Vec<&'static str>,
    project: String,
    file: PathBuf,
    input: PathBuf,
    /// The harness's own ways to the nodes: whose addresses change when they come back.
    pub(crate) proxies: Proxies,
}

impl Compose {
    /// Finds the engine and the image, and brings up `services`.
    pub(crate) async fn up(input: PathBuf, services: &[String], seed: u64) -> anyhow::Result<Compose> {
        tool("docker", &["info"]).await.context("--target compose needs a Docker engine")?;
        tool("docker", &["image", "inspect", IMAGE])
            .await
            .with_context(|| format!("--target compose needs the image {IMAGE}: `.ci/run image` builds it"))?;
        let plugin = tool("docker", &["compose", "version"]).await.is_ok();
        let program = if plugin { vec!["docker", "compose"] } else { vec!["docker-compose"] };
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docker-compose.yml");
        if !file.exists() {
            bail!("{} is not there: run from the checkout that this harness was built in", file.display());
        }
        let project = format!("jepsen-lite-{}", std::process::id());
        let compose = Compose { program, project, file, input, proxies: Proxies::new(seed) };
        let mut args = vec!["up", "-d"];
        args.extend(services.iter().map(String::as_str));
        compose.compose(&args).await?;
        Ok(compose)
    }

    /// What the binary in the image says that it is.
    pub(crate) async fn version() -> anyhow::Result<String> {
        tool("docker", &["run", "--rm", IMAGE, "--version"]).await.map(|version| version.trim().to_owned())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program[0]);
        command.args(&self.program[1..]).arg("-p").arg(&self.project).arg("-f").arg(&self.file).args(args);
        command.env("PALISADE_INPUT", &self.input).stdin(Stdio::null());
        command.envs(["PALISADE_PORT_1", "PALISADE_PORT_2", "PALISADE_PORT_3"].map(|port| (port, "")));
        command
    }

    async fn compose(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::from(self.command(args));
        let output = tokio::time::timeout(std::time::Duration::from_secs(120), command.kill_on_drop(true).output());
        let output = output.await.context("docker compose did not end within 120 s")??;
        if !output.status.success() {
            bail!("docker compose {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The container of a service, running or not, or of a candidate.
    pub(crate) async fn container(&self, name: &str) -> anyhow::Result<String> {
        if is_candidate(name) {
            return Ok(format!("{}-{name}", self.project));
        }
        let label = |key: &str, value: &str| format!("label=com.docker.compose.{key}={value}");
        let (project, service) = (label("project", &self.project), label("service", name));
        let found = tool("docker", &["ps", "-aq", "--filter", &project, "--filter", &service]).await?;
        let id = found.trim();
        anyhow::ensure!(!id.is_empty() && !id.contains('\n'), "{name} is not one container: '{id}'");
        Ok(id.to_owned())
    }

    fn network(&self) -> String {
        format!("{}_palisade", self.project)
    }

    /// Where the harness reaches a container that is on the network.
    pub(crate) async fn address(&self, name: &str) -> anyhow::Result<String> {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{}\").IPAddress}}}}", self.network());
        let address = tool("docker", &["inspect", "-f", &format, &self.container(name).await?]).await?;
        anyhow::ensure!(!address.trim().is_empty(), "{name} has no address");
        let port = if name.starts_with("node-") { PORT } else { 7080 };
        Ok(format!("{}:{port}", address.trim()))
    }

    pub(crate) async fn kill(&self, name: &str, signal: &str) -> anyhow::Result<()> {
        let id = self.container(name).await?;
        tool("docker", &["kill", "-s", signal, &id]).await?;
        // A candidate's container is removed with its end, so there may be nothing left to wait for.
        let waited = tool("docker", &["wait", &id]).await;
        if is_candidate(name) { Ok(()) } else { waited.map(|_| ()) }
    }

    pub(crate) async fn freeze(&self, name: &str, frozen: bool) -> anyhow::Result<()> {
        let verb = if frozen { "pause" } else { "unpause" };
        tool("docker", &[verb, &self.container(name).await?]).await.map(|_| ())
    }

    pub(crate) async fn start(&self, name: &str) -> anyhow::Result<()> {
        tool("docker", &["start", &self.container(name).await?]).await.map(|_| ())
    }

    /// Takes a container off the network, or puts it back under its name.
    pub(crate) async fn cut_off(&self, name: &str, cut: bool) -> anyhow::Result<()> {
        let (network, id) = (self.network(), self.container(name).await?);
        match cut {
            true => tool("docker", &["network", "disconnect", &network, &id]).await.map(|_| ()),
            false => tool("docker", &["network", "connect", "--alias", name, &network, &id]).await.map(|_| ()),
        }
    }

    /// How a candidate is started: `docker run`, whose stdout is the candidate's. Ended by its container, not by this process.
    pub(crate) fn candidate(&self, name: &str, args: &[String]) -> Spec {
        let (container, network) = (format!("{}-{name}", self.project), self.network());
        let run = ["docker", "run", "--rm", "--name", &container, "--network", &network, IMAGE].map(str::to_owned);
        Spec { wrap: run.to_vec(), wrapped: true, args: args.to_vec(), heard: true, ..Spec::default() }
    }

    /// Runs `palisade ARGS` in a container of the first worker; its stdout.
    pub(crate) async fn palisade(&self, within: &str, args: &[&str]) -> anyhow::Result<String> {
        let id = self.container(within).await?;
        let mut all = vec!["exec", id.as_str(), "/palisade"];
        all.extend(args);
        tool("docker", &all).await
    }

    /// Hands in a job, from the first worker.
    pub(crate) async fn submit(&self, described: &str) -> anyhow::Result<String> {
        let id = self.container("te-1").await?;
        let mut command = tokio::process::Command::new("docker");
        command.args(["exec", "-i", &id, "/palisade", "job", "submit", "/dev/stdin", "--output", "json"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        tokio::io::AsyncWriteExt::write_all(&mut stdin, described.as_bytes()).await?;
        drop(stdin);
        let output = tokio::time::timeout(std::time::Duration::from_secs(30), child.wait_with_output()).await??;
        anyhow::ensure!(output.status.success(), "the job was not accepted");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What the containers have said so far, for the run folder.
    pub(crate) async fn logs(&self) -> String {
        self.compose(&["logs", "--no-color", "--timestamps"]).await.unwrap_or_default()
    }

    /// Whether a service's container runs.
    pub(crate) async fn runs(&self, name: &str) -> bool {
        let Ok(id) = self.container(name).await else { return false };
        tool("docker", &["inspect", "-f", "{{.State.Running}}", &id]).await.is_ok_and(|state| state.trim() == "true")
    }
}

/// Services are named after their kind; everything else was started by the harness itself.
fn is_candidate(name: &str) -> bool {
    !["node-", "jm-", "te-"].iter().any(|kind| name.starts_with(kind))
}

impl Compose {
    /// Takes the project down, with what is left of candidates. Again is no harm.
    pub(crate) fn down(&self) {
        // Candidates that were left over hold the network.
        let ours = format!("name={}-c", self.project);
        if let Ok(output) = Command::new("docker").args(["ps", "-aq", "--filter", &ours]).output() {
            let ids = String::from_utf8_lossy(&output.stdout).into_owned();
            let ids: Vec<_> = ids.split_whitespace().collect();
            if !ids.is_empty() {
                let _ = Command::new("docker").args(["rm", "-f"]).args(ids).output();
            }
        }
        let _ = self.command(&["down", "-v", "--timeout", "1"]).output();
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        self.down();
    }
}
