//! Processes that campaign, as users start them, and what they say.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use palisade_client::Client;
use palisade_world::World;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::LIMIT;
use crate::bench::nodes::Nodes;
use crate::exit::Failure;

/// "Candidate `who` said `event`, heard at `at`."
pub(super) struct Heard {
    pub(super) who: usize,
    pub(super) event: String,
    pub(super) token: u64,
    pub(super) at: Duration,
}

/// What a candidate is called.
pub(super) fn id(who: usize) -> String {
    format!("candidate-{who}")
}

/// Candidates, numbered from 0.
pub(super) struct Candidates {
    children: Vec<Child>,
    /// Of each, without its id.
    command: Vec<Vec<String>>,
    tell: mpsc::Sender<Heard>,
    heard: mpsc::Receiver<Heard>,
    world: World,
}

impl Candidates {
    /// Starts one for each election named; the same name twice makes rivals. `flags` go to all.
    pub(super) fn start(
        elections: &[String],
        flags: &[String],
        nodes: &Nodes,
        world: &World,
    ) -> Result<Candidates, Failure> {
        let (tell, heard) = mpsc::channel(256);
        let command = |election: &String| {
            let head = ["elect", "campaign", election, "--output", "jsonl", "--endpoints"].map(str::to_owned);
            head.into_iter().chain([nodes.endpoints.join(",")]).chain(flags.iter().cloned()).collect()
        };
        let command = elections.iter().map(command).collect();
        let mut candidates = Candidates { children: Vec::new(), command, tell, heard, world: world.clone() };
        for who in 0..elections.len() {
            let child = candidates.spawn(who)?;
            candidates.children.push(child);
        }
        Ok(candidates)
    }

    fn spawn(&self, who: usize) -> Result<Child, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(&self.command[who])
            .args(["--id", &id(who)])
            .env_remove("PALISADE_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let (tell, world) = (self.tell.clone(), self.world.clone());
        let listen = async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let at = world.now();
                let said: Value = serde_json::from_str(&line).unwrap_or_default();
                let event = said["event"].as_str().unwrap_or_default().to_owned();
                let token = said["token"].as_u64().unwrap_or_default();
                if tell.send(Heard { who, event, token, at }).await.is_err() {
                    return;
                }
            }
        };
        self.world.spawn("candidate-events", listen).detach();
        Ok(child)
    }

    /// The next grant; what else is said before it is dropped.
    pub(super) async fn granted(&mut self) -> Result<Heard, Failure> {
        let granted = async {
            loop {
                match self.heard.recv().await {
                    Some(heard) if heard.event == "granted" => return heard,
                    Some(_) => {}
                    None => std::future::pending().await, // we hold a sender
                }
            }
        };
        self.world
            .timeout(LIMIT, granted)
            .await
            .ok_or_else(|| Failure::failed(format!("nobody was granted the election within {LIMIT:?}")))
    }

    /// What was said meanwhile.
    pub(super) fn said(&mut self) -> Vec<Heard> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }

    /// Sends a signal to one, at the time that is returned.
    pub(super) fn signal(&self, who: usize, signal: Signal) -> Result<Duration, Failure> {
        let id = self.children[who].id().and_then(|id| i32::try_from(id).ok());
        let id = id.ok_or_else(|| Failure::failed(format!("candidate {who} has ended by itself")))?;
        let at = self.world.now();
        kill(Pid::from_raw(id), signal).map_err(|error| Failure::failed(format!("candidate {who}: {error}")))?;
        Ok(at)
    }

    /// Makes sure that one has ended, and starts another in its place.
    pub(super) async fn replace(&mut self, who: usize) -> Result<(), Failure> {
        self.children[who].kill().await?;
        self.children[who] = self.spawn(who)?;
        Ok(())
    }

    /// Waits until so many wait in an election: else it is their start that is measured.
    pub(super) async fn until_waiting(&self, election: &str, count: usize, client: &Client) -> Result<(), Failure> {
        let until = self.world.now() + LIMIT;
        while self.world.now() < until {
            let elections = client.elections().await?;
            if elections.iter().any(|it| it.election == election && it.waiting as usize >= count) {
                return Ok(());
            }
            self.world.sleep(Duration::from_millis(5)).await;
        }
        Err(Failure::failed(format!("{count} candidates did not come to wait within {LIMIT:?}")))
    }
}
