//! Child processes of `demo` and `bench`: started on free loopback ports, killed by id, waited for by what they say.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use palisade_world::World;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::exit::Failure;

/// How long a started process may take to say that it listens.
const START: Duration = Duration::from_secs(20);

/// One running child of ours. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) address: String,
    child: Child,
    command: Vec<String>,
    log: PathBuf,
}

impl Process {
    /// Starts this binary with `command`; returns once it says on stderr that it listens. Everything it says goes to
    /// `NAME.log` below `logs`.
    pub(crate) async fn start(
        name: &str,
        command: Vec<String>,
        logs: &Path,
        world: &World,
    ) -> Result<Process, Failure> {
        let log = logs.join(format!("{name}.log"));
        let (child, address) = spawn(name, &command, &log, world).await?;
        Ok(Process { name: name.to_owned(), address, child, command, log })
    }

    /// Starts it again after it ended. It may listen elsewhere if its port was 0.
    pub(crate) async fn restart(&mut self, world: &World) -> Result<(), Failure> {
        let (child, address) = spawn(&self.name, &self.command, &self.log, world).await?;
        self.child = child;
        self.address = address;
        Ok(())
    }

    /// `kill -9`, and waits until the process is gone. `world.now()` just before the signal is returned.
    pub(crate) async fn kill(&mut self, world: &World) -> Result<Duration, Failure> {
        let at = world.now();
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(at)
    }

    /// Sends it a signal, at the time that is returned.
    pub(crate) fn signal(&self, signal: Signal, world: &World) -> Result<Duration, Failure> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.ok_or_else(|| Failure::failed(format!("{} has ended by itself", self.name)))?;
        let at = world.now();
        kill(Pid::from_raw(id), signal).map_err(|error| Failure::failed(format!("{}: {error}", self.name)))?;
        Ok(at)
    }

    /// Its process id, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its resident memory; `None` if it is not known.
    pub(crate) fn memory_kb(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        resident.trim().split(' ').next()?.parse().ok()
    }

    /// SIGTERM, then SIGKILL if it has not ended within `grace`.
    pub(crate) async fn stop(mut self, grace: Duration, world: &World) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        if world.timeout(grace, self.child.wait()).await.is_none() {
            let _ = self.child.kill().await;
        }
    }
}

async fn spawn(name: &str, command: &[String], log: &Path, world: &World) -> Result<(Child, String), Failure> {
    let failed = |what: String| Failure::failed(format!("{name}: {what} (its log: {})", log.display()));
    let file =
        std::fs::File::options().create(true).append(true).open(log).map_err(|error| failed(error.to_string()))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(command)
        .env_remove("PALISADE_CONFIG")
        .env_remove("PALISADE_OUTPUT")
        .stdin(Stdio::null())
        .stdout(Stdio::from(file.try_clone()?))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        // Ctrl-C must reach us only: we end the children in order.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format!("could not be started: {error}")))?;
    let stderr = child.stderr.take().expect("stderr is piped");
    let (found, address) = tokio::sync::oneshot::channel();
    world.spawn("child-log", copy_log(stderr, tokio::fs::File::from_std(file), found)).detach();
    match world.timeout(START, address).await {
        Some(Ok(address)) => Ok((child, address)),
        Some(Err(_)) => Err(failed("ended before it listened".to_owned())),
        None => Err(failed(format!("did not listen within {START:?}"))),
    }
}

/// Copies a child's stderr to its log and picks out the line "… listens on ADDRESS".
async fn copy_log(
    stderr: tokio::process::ChildStderr,
    mut log: tokio::fs::File,
    found: tokio::sync::oneshot::Sender<String>,
) {
    use tokio::io::AsyncWriteExt;
    let mut found = Some(found);
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((_, address)) = line.split_once(" listens on ")
            && let Some(found) = found.take()
        {
            let _ = found.send(address.trim().to_owned());
        }
        let _ = log.write_all(line.as_bytes()).await;
        let _ = log.write_all(b"\n").await;
    }
    let _ = log.flush().await;
}

/// Reserves loopback addresses that were free a moment ago.
pub(crate) async fn free_addresses(count: usize, world: &World) -> Result<Vec<String>, Failure> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        held.push(world.bind("127.0.0.1:0").await?);
    }
    Ok(held.iter().map(|listener| listener.local_addr().to_string()).collect())
}

/// Starts a cluster of `count` store nodes with data below `dir`; returns once all listen.
pub(crate) async fn start_cluster(count: usize, dir: &Path, world: &World) -> Result<Vec<Process>, Failure> {
    let addresses = free_addresses(count, world).await?;
    let initial =
        addresses.iter().enumerate().map(|(at, address)| format!("{}={address}", at + 1)).collect::<Vec<_>>().join(",");
    let starts = addresses.iter().enumerate().map(|(at, address)| {
        let id = at + 1;
        let data = dir.join(format!("node-{id}"));
        let command = [
            "server",
            "--id",
            &id.to_string(),
            "--listen",
            address,
            "--data",
            &data.to_string_lossy(),
            "--initial",
            &initial,
        ]
        .map(str::to_owned);
        async move { Process::start(&format!("node-{id}"), command.to_vec(), dir, world).await }
    });
    futures_util::future::try_join_all(starts).await
}
