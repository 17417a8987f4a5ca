//! Real processes: a cluster of three nodes, candidates, and the command line as a user has it. Everything is on free loopback
//! ports in a temporary folder, and everything that was started is killed by id when the test ends.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes longer unless something is wrong.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn palisade() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PALISADE_")) {
        command.env_remove(name);
    }
    command
}

/// Waits for a named condition, within a bound.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < until, "did not come about within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A child that is killed when it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.id()), signal).unwrap();
    }

    /// `kill -9`; returns when it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.0;
        eventually("the process ends", || child.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The exit code as a shell shows it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Loopback addresses that were free a moment ago.
pub(crate) fn free_addresses(count: usize) -> Vec<String> {
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

/// Three store nodes.
pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) addresses: Vec<String>,
    pub(crate) nodes: Vec<Running>,
    /// Put before the command line of a node, such as strace.
    wrapper: Vec<String>,
    /// Put behind it.
    extra: Vec<String>,
    /// Set for a node that is started from now on.
    pub(crate) env: Vec<(&'static str, String)>,
}

impl Cluster {
    pub(crate) fn start() -> Cluster {
        Cluster::start_under(&[])
    }

    /// Starts each node under a wrapper; `{}` in it becomes the node's id.
    pub(crate) fn start_under(wrapper: &[&str]) -> Cluster {
        Cluster::start_as(wrapper, &[])
    }

    /// Starts each node with further flags.
    pub(crate) fn start_with(extra: &[&str]) -> Cluster {
        Cluster::start_as(&[], extra)
    }

    fn start_as(wrapper: &[&str], extra: &[&str]) -> Cluster {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let mut cluster = Cluster { wrapper: words(wrapper), extra: words(extra), ..Cluster::at(free_addresses(3)) };
        cluster.start_nodes();
        cluster.wait_until_serving();
        cluster
    }

    /// Folders and addresses, and nothing running.
    pub(crate) fn at(addresses: Vec<String>) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        Cluster { dir, addresses, nodes: Vec::new(), wrapper: Vec::new(), extra: Vec::new(), env: Vec::new() }
    }

    pub(crate) fn start_nodes(&mut self) {
        for id in 1..=3 {
            self.start_node(id);
        }
    }

    pub(crate) fn start_node(&mut self, id: usize) {
        let node = self.spawn(id);
        self.nodes.push(node);
    }

    /// Ends all nodes as an operator does.
    pub(crate) fn stop(&mut self) {
        for node in &self.nodes {
            node.signal(nix::sys::signal::Signal::SIGTERM);
        }
        for mut node in self.nodes.drain(..) {
            node.wait();
        }
    }

    pub(crate) fn initial(&self) -> String {
        self.addresses
            .iter()
            .enumerate()
            .map(|(at, address)| format!("{}={address}", at + 1))
            .collect::<Vec<_>>()
            .join(",")
    }

    fn spawn(&self, id: usize) -> Running {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("node-{id}.log")))
            .unwrap();
        let mut command = palisade();
        if let Some((program, rest)) = self.wrapper.split_first() {
            command = Command::new(program);
            command.args(rest.iter().map(|word| word.replace("{}", &format!("{}/{id}", self.dir.path().display()))));
            command.arg(env!("CARGO_BIN_EXE_palisade"));
        }
        let data = self.data(id);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args([
            "server",
            "--id",
            &id.to_string(),
            "--listen",
            &self.addresses[id - 1],
            "--data",
            data.to_str().unwrap(),
        ]);
        command.args(["--initial", &self.initial()]).args(&self.extra);
        Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    pub(crate) fn data(&self, id: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("data-{id}"))
    }

    pub(crate) fn log(&self, id: usize) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("node-{id}.log"))).unwrap_or_default()
    }

    /// Where a node that was started with `--metrics` serves them: what it said last.
    pub(crate) fn metrics(&self, id: usize) -> String {
        eventually("the node says where its metrics are", || said(&self.log(id), " serves metrics on "))
    }

    pub(crate) fn restart(&mut self, id: usize) {
        self.nodes[id - 1] = self.spawn(id);
    }

    pub(crate) fn endpoints(&self) -> String {
        self.addresses.join(",")
    }

    /// Runs one command against the cluster.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        palisade().args(args).args(["--endpoints", &self.endpoints()]).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that must succeed, and gives its JSON document.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--output", "json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a command that must fail, and gives its exit code and the error's JSON.
    pub(crate) fn refused(&self, args: &[&str]) -> (i32, Value) {
        let output = self.run(&[args, &["--output", "json"]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?} succeeded");
        let error = stderr
            .lines()
            .find_map(|line| serde_json::from_str::<Value>(line).ok())
            .unwrap_or_else(|| panic!("{args:?}: no JSON in {stderr}"));
        (code(output.status), error["error"].clone())
    }

    pub(crate) fn wait_until_serving(&self) {
        eventually("the cluster serves", || {
            self.run(&["kv", "put", "up", "1", "--timeout", "1s"]).status.success().then_some(())
        });
    }

    /// Id of the store leader.
    pub(crate) fn store_leader(&self) -> usize {
        eventually("there is a store leader", || {
            let output = self.run(&["cluster", "status", "--output", "json", "--timeout", "1s"]);
            let status: Value = serde_json::from_slice(&output.stdout).ok()?;
            let leader = status["store_leader"].as_u64()?;
            let role = &status["nodes"].as_array()?.iter().find(|node| node["id"] == leader)?["role"];
            (role == "leader").then_some(usize::try_from(leader).unwrap())
        })
    }

    /// Starts `palisade elect campaign` and gives its events as they come.
    pub(crate) fn candidate(&self, election: &str, id: &str, extra: &[&str]) -> Candidate {
        let args = ["elect", "campaign", election, "--id", id, "--output", "jsonl", "--endpoints", &self.endpoints()];
        Candidate::spawn(palisade().args(args).args(extra), self.dir.path())
    }
}

impl Cluster {
    /// Starts `palisade elect observe` and gives its events as they come.
    pub(crate) fn observer(&self, election: &str) -> Candidate {
        self.observer_with(election, &[])
    }

    pub(crate) fn observer_with(&self, election: &str, extra: &[&str]) -> Candidate {
        let args = ["elect", "observe", election, "--output", "jsonl", "--endpoints", &self.endpoints()];
        Candidate::spawn(palisade().args(args).args(extra), self.dir.path())
    }

    /// Starts `palisade kv watch` and gives its events as they come.
    pub(crate) fn watcher(&self, keys: &[&str]) -> Candidate {
        let args = ["--output", "jsonl", "--endpoints", &self.endpoints()];
        Candidate::spawn(palisade().args(["kv", "watch"]).args(keys).args(args), self.dir.path())
    }
}

/// What stands behind some words in a log, the last time.
pub(crate) fn said(log: &str, words: &str) -> Option<String> {
    let line = log.lines().rev().find_map(|line| line.split_once(words))?;
    Some(line.1.trim().to_owned())
}

/// One answer over plain HTTP 1.0, which has no chunks: its status and its body.
pub(crate) fn http(address: &str, path: &str) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// A process whose stdout is JSON lines.
pub(crate) struct Candidate {
    pub(crate) process: Running,
    events: mpsc::Receiver<Value>,
}

impl Candidate {
    pub(crate) fn spawn(command: &mut Command, dir: &Path) -> Candidate {
        let log = std::fs::File::options().create(true).append(true).open(dir.join("candidates.log")).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (send, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = serde_json::from_str(&line).map(|event| send.send(event));
            }
        });
        Candidate { process: Running(child), events }
    }

    /// The next event with this name; others before it are dropped.
    pub(crate) fn next(&self, name: &str) -> Value {
        let until = Instant::now() + LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).unwrap_or_else(|_| panic!("no event '{name}' within {LIMIT:?}"));
            if event["event"] == name {
                return event;
            }
        }
    }

    /// The next event, whatever it is.
    pub(crate) fn next_of_any(&self) -> Value {
        self.events.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("no event within {LIMIT:?}"))
    }

    /// Every event that has come so far.
    pub(crate) fn so_far(&self) -> Vec<Value> {
        self.events.try_iter().collect()
    }
}
