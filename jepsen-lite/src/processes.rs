//! Real processes: started, signalled, waited for. Ended by id, never by name; none outlives the harness.
//!
//! Decides nothing: which process is hit when, and what that is called, is the nemeses' affair.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Whoever was told to end in order and has not by then is killed: it must not hold the run up.
const ORDERLY_END: Duration = Duration::from_secs(20);

/// How one process is started, so that it can be started again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spec {
    /// What stands before the program: `ip netns exec …`, say.
    pub(crate) wrap: Vec<String>,
    /// `wrap` names the program as well: `docker run … IMAGE`.
    pub(crate) wrapped: bool,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Whether the harness reads its stdout; otherwise it goes to its log.
    pub(crate) heard: bool,
}

/// What one run of the harness starts its processes with.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    pub(crate) palisade: PathBuf,
    pub(crate) dir: PathBuf,
    /// Broken on purpose: the value of `PALISADE_PLANTED` for everything that is started.
    pub(crate) planted: Option<String>,
}

impl Launcher {
    /// Refuses a binary of another commit: a verdict must be about the code that the harness was built with.
    pub(crate) async fn check_commit(&self) -> anyhow::Result<String> {
        let path = self.palisade.display();
        let output = Command::new(&self.palisade)
            .arg("--version")
            .output()
            .await
            .with_context(|| format!("running {path} --version"))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        same_commit(&path.to_string(), &version)?;
        Ok(version)
    }

    /// Starts a process; its stderr, and its stdout unless it is heard, go to `NAME.log`.
    pub(crate) fn start(&self, name: &str, spec: &Spec) -> anyhow::Result<Child> {
        let path = self.log(name);
        let open = || std::fs::File::options().create(true).append(true).open(&path);
        let log = open().with_context(|| format!("opening {}", path.display()))?;
        let mut words: Vec<&std::ffi::OsStr> = spec.wrap.iter().map(AsRef::as_ref).collect();
        if !spec.wrapped {
            words.push(self.palisade.as_ref());
        }
        let (program, rest) = words.split_first().expect("there is a program");
        let mut command = Command::new(program);
        command.args(rest).args(&spec.args).envs(spec.env.iter().map(|(name, value)| (name, value)));
        // Every flag has a variable of its own: what this shell has set is not what the run is about.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PALISADE_")) {
            command.env_remove(name);
        }
        if let Some(bug) = &self.planted {
            command.env("PALISADE_PLANTED", bug);
        }
        command.stdout(if spec.heard { Stdio::piped() } else { Stdio::from(log.try_clone()?) });
        command.stdin(Stdio::null()).stderr(Stdio::from(log)).kill_on_drop(true).process_group(0);
        command.spawn().with_context(|| format!("starting {name}"))
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }
}

/// Refuses what says that it is of another commit than this harness.
pub(crate) fn same_commit(what: &str, version: &str) -> anyhow::Result<()> {
    let ours = env!("JEPSEN_LITE_COMMIT");
    if ours.is_empty() {
        eprintln!("jepsen-lite: this harness does not know its own commit; it cannot tell whether {what} matches");
    } else if !version.contains(&ours[..12]) {
        bail!(
            "{what} says '{version}', but this harness was built from commit {}: build both from one commit",
            &ours[..12]
        );
    }
    Ok(())
}

/// What a process prints, line by line.
pub(crate) type Heard = Lines<BufReader<ChildStdout>>;

pub(crate) fn heard(child: &mut Child) -> Heard {
    BufReader::new(child.stdout.take().expect("stdout is piped and was not taken before")).lines()
}

/// Sends a signal to the one process. That it has just ended by itself is not an error here: the end of the run sees that.
pub(crate) fn send(child: &Child, what: Signal) -> anyhow::Result<()> {
    let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) else { return Ok(()) };
    match signal::kill(Pid::from_raw(pid), what) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("sending {what} to {pid}")),
    }
}

/// `kill -9`, and waits until the process is gone.
pub(crate) async fn kill(child: &mut Child) -> anyhow::Result<()> {
    send(child, Signal::SIGKILL)?;
    child.wait().await?;
    Ok(())
}

/// SIGTERM, and waits until the process is gone. Whether it ended by itself in time.
pub(crate) async fn terminate(child: &mut Child) -> anyhow::Result<bool> {
    send(child, Signal::SIGTERM)?;
    if tokio::time::timeout(ORDERLY_END, child.wait()).await.is_ok() {
        return Ok(true);
    }
    kill(child).await?;
    Ok(false)
}

/// Loopback addresses that were free a moment ago.
pub(crate) fn free_addresses(count: usize) -> anyhow::Result<Vec<String>> {
    /// Of this run: a port that was let go a moment ago is still meant for the process that will listen there.
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Held until all are found, so that none is found twice; what was given before is held in vain.
    let (mut held, mut addresses) = (Vec::new(), Vec::new());
    while addresses.len() < count {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        if given.insert(address.port()) {
            addresses.push(address.to_string());
        }
        held.push(listener);
        anyhow::ensure!(held.len() < 1_000, "no port is free that this run has not used");
    }
    Ok(addresses)
}

/// Makes the folder of a run.
pub(crate) fn run_folder(store: &Path, scenario: &str, seed: u64) -> anyhow::Result<PathBuf> {
    for attempt in 0..10_000 {
        let dir = store.join(format!("{scenario}-{seed}-{attempt}"));
        match std::fs::create_dir_all(store).and_then(|()| std::fs::create_dir(&dir)) {
            Ok(()) => return Ok(dir.canonicalize()?),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("making {}", dir.display())),
        }
    }
    bail!("{} is full of runs of {scenario} with seed {seed}", store.display())
}

/// Runs a program to its end, within 60 s; its stdout, or what it said on stderr.
pub(crate) async fn tool(program: &str, args: &[&str]) -> anyhow::Result<String> {
    tool_known(program, args, |_| (), |_| ()).await
}

/// The same, for those who want to know its process id while it runs.
pub(crate) async fn tool_known(
    program: &str,
    args: &[&str],
    known: impl FnOnce(u32),
    gone: impl FnOnce(u32),
) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().with_context(|| format!("running {program}"))?;
    let pid = child.id().unwrap_or_default();
    known(pid);
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
    gone(pid);
    let output = output.with_context(|| format!("{program} {} did not end within 60 s", args.join(" ")))??;
    if !output.status.success() {
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
