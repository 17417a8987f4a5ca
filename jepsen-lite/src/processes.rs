//! Real processes: store nodes and candidates. Killed by id, never by name.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// What one run of the harness starts its processes with.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    pub(crate) palisade: PathBuf,
    pub(crate) dir: PathBuf,
}

impl Launcher {
    /// Refuses a binary of another commit: a verdict must be about the code that the harness was built with.
    /// Gives what the binary says of its version.
    pub(crate) async fn check_commit(&self) -> anyhow::Result<String> {
        let ours = env!("JEPSEN_LITE_COMMIT");
        let path = self.palisade.display();
        let output = Command::new(&self.palisade)
            .arg("--version")
            .output()
            .await
            .with_context(|| format!("running {path} --version"))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if ours.is_empty() {
            eprintln!("jepsen-lite: this harness does not know its own commit; it cannot tell whether {path} matches");
        } else if !version.contains(&ours[..12]) {
            bail!(
                "{path} says '{version}', but this harness was built from commit {}: build both from one commit",
                &ours[..12]
            );
        }
        Ok(version)
    }

    fn command(&self, args: &[String], log: &str) -> anyhow::Result<Command> {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join(log))?;
        let mut command = Command::new(&self.palisade);
        command.args(args).stdin(Stdio::null()).stderr(Stdio::from(log)).kill_on_drop(true).process_group(0);
        Ok(command)
    }

    /// Starts a store node; it is up once it answers, which the caller waits for.
    pub(crate) fn node(&self, id: usize, addresses: &[String]) -> anyhow::Result<Child> {
        let initial = addresses
            .iter()
            .enumerate()
            .map(|(at, address)| format!("{}={address}", at + 1))
            .collect::<Vec<_>>()
            .join(",");
        let data = self.dir.join(format!("node-{id}"));
        let args = [
            "server",
            "--id",
            &id.to_string(),
            "--listen",
            &addresses[id - 1],
            "--data",
            &data.to_string_lossy(),
            "--initial",
            &initial,
        ]
        .map(str::to_owned);
        let mut command = self.command(&args, &format!("node-{id}.log"))?;
        command.stdout(Stdio::null()).spawn().context("starting a node")
    }

    /// Starts a candidate whose session is released as soon as its connection breaks.
    pub(crate) fn candidate(&self, name: &str, election: &str, addresses: &[String]) -> anyhow::Result<Candidate> {
        let args = [
            "elect",
            "campaign",
            election,
            "--id",
            name,
            "--release-after",
            "0ms",
            "--ttl",
            "2s",
            "--output",
            "jsonl",
            "--endpoints",
        ];
        let mut args = args.map(str::to_owned).to_vec();
        args.push(addresses.join(","));
        let mut child = self
            .command(&args, &format!("{name}.log"))?
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a candidate")?;
        let stdout = child.stdout.take().expect("stdout is piped");
        Ok(Candidate { name: name.to_owned(), child, events: BufReader::new(stdout).lines() })
    }
}

/// A process that campaigns and says on stdout what becomes of it.
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) child: Child,
    pub(crate) events: Lines<BufReader<ChildStdout>>,
}

/// Loopback addresses that were free a moment ago.
pub(crate) fn free_addresses(count: usize) -> anyhow::Result<Vec<String>> {
    let held = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    Ok(held.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect::<std::io::Result<_>>()?)
}

/// Ends a node or candidate at once.
pub(crate) async fn kill(child: &mut Child) -> anyhow::Result<()> {
    child.start_kill()?;
    child.wait().await?;
    Ok(())
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
