//! Everything that a run has started, by name, wherever it lives: `node-1`, `jm-1`, `te-1`, and candidates `c1`, `c2`, ….
//!
//! What it keeps true: whatever ends without having been ended from here is noticed and written down as `unexpected`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use jepsen_lite::history::{Record, Recorder, f};
use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::sync::Mutex;

use crate::api::{Api, Outcome, Place};
use crate::clock_control::ClockControl;
use crate::net::CLIENT;
use crate::net::faults::Faults;
use crate::net::proxy::Proxy;
use crate::processes::{self, Heard, Launcher, Spec, heard};
use crate::run::JOBMANAGERS;
use crate::targets::{COMPOSE_ENDPOINTS, Compose, Local, Namespaces, OwnDisks, Shape, Target, node_name};

/// A cluster serves within this after it was started or healed, or the run is not good.
pub(crate) const SERVES_WITHIN: Duration = Duration::from_secs(30);
/// Slots of each TaskExecutor.
const SLOTS: u32 = 2;

/// Exit codes of `elect campaign` and `elect run` when the store does not answer their first attempt.
const GAVE_UP: [i32; 3] = [4, 5, 125];

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hit {
    Kill,
    Terminate,
    Pause,
    Resume,
}

#[derive(Debug)]
enum Host {
    Local(Local),
    Compose(Compose, Vec<Proxy>),
    Namespaces(Namespaces),
}

/// All that runs.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) shape: Shape,
    pub(crate) launcher: Launcher,
    pub(crate) recorder: Recorder,
    host: Host,
    clocks: Option<ClockControl>,
    children: Mutex<BTreeMap<String, Child>>,
}

/// What a stage is made of.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) target: Target,
    pub(crate) shape: Shape,
    pub(crate) disks: Option<OwnDisks>,
    pub(crate) clocks: Option<ClockControl>,
    pub(crate) input: PathBuf,
    pub(crate) seed: u64,
}

impl Stage {
    /// Starts everything; returns when the store serves.
    pub(crate) async fn set(setting: Setting, launcher: Launcher, recorder: Recorder) -> anyhow::Result<Stage> {
        let Setting { target, shape, disks, clocks, input, seed } = setting;
        let dir = launcher.dir.clone();
        std::fs::create_dir_all(dir.join("storage"))?;
        let host = match target {
            Target::Local => Host::Local(Local::new(shape, disks, dir, seed).await?),
            Target::Namespaces => Host::Namespaces(Namespaces::up(shape, dir)?),
            Target::Compose => {
                let compose = Compose::up(input, &names(shape), seed).await?;
                let mut own = Vec::new();
                for id in 1..=shape.nodes {
                    let name = node_name(id);
                    own.push(compose.proxies.own(CLIENT, &name, &compose.address(&name).await?).await?);
                }
                Host::Compose(compose, own)
            }
        };
        let stage = Stage { shape, launcher, recorder, host, clocks, children: Mutex::default() };
        if target != Target::Compose {
            // Workers look for the store, and for each other, until they are there.
            for name in names(shape) {
                stage.start(&name).await?;
            }
        }
        stage.serves().await?;
        Ok(stage)
    }

    /// Where the harness reaches the store nodes.
    pub(crate) fn places(&self) -> Vec<Place> {
        let address = |id: usize| match &self.host {
            Host::Local(local) => local.node_address(id).to_owned(),
            Host::Namespaces(spaces) => spaces.node_address(id),
            Host::Compose(_, own) => own[id - 1].address(),
        };
        (1..=self.shape.nodes).map(|id| Place { name: node_name(id), address: address(id) }).collect()
    }

    /// The same nodes by a way of their own for `caller`, which faults can name; it ends with what is returned beside it.
    pub(crate) async fn own_places(&self, caller: &str) -> anyhow::Result<(Vec<Place>, Vec<Proxy>)> {
        let Host::Local(local) = &self.host else { bail!("only the local target has links for one client alone") };
        let mut proxies = Vec::new();
        for place in self.places() {
            proxies.push(local.proxies.own(caller, &place.name, &place.address).await?);
        }
        let places = self.places().into_iter().zip(&proxies);
        let places = places.map(|(place, proxy)| Place { address: proxy.address(), ..place }).collect();
        Ok((places, proxies))
    }

    pub(crate) fn api(&self, first: usize) -> anyhow::Result<Api> {
        Api::new(&self.places(), first)
    }

    /// What processes of the run are given as `--endpoints`.
    pub(crate) fn endpoints(&self) -> String {
        match &self.host {
            Host::Local(local) => local.endpoints(),
            Host::Namespaces(spaces) => spaces.endpoints(),
            Host::Compose(..) => COMPOSE_ENDPOINTS.to_owned(),
        }
    }

    /// Where the harness reaches a TaskExecutor or JobManager.
    pub(crate) async fn worker_address(&self, name: &str) -> anyhow::Result<String> {
        match &self.host {
            Host::Local(local) => local.proxies.address(name).with_context(|| format!("there is no {name}")),
            Host::Compose(compose, ..) => compose.address(name).await,
            Host::Namespaces(_) => bail!("the target namespaces has store nodes only"),
        }
    }

    pub(crate) fn node_names(&self) -> Vec<String> {
        (1..=self.shape.nodes).map(node_name).collect()
    }

    pub(crate) fn jobmanager_names(&self) -> Vec<String> {
        (1..=self.shape.jobmanagers).map(|id| format!("jm-{id}")).collect()
    }

    pub(crate) fn taskexecutor_names(&self) -> Vec<String> {
        (1..=self.shape.taskexecutors).map(|id| format!("te-{id}")).collect()
    }

    pub(crate) fn target(&self) -> Target {
        match &self.host {
            Host::Local(_) => Target::Local,
            Host::Compose(..) => Target::Compose,
            Host::Namespaces(_) => Target::Namespaces,
        }
    }

    /// The file systems of the nodes, if the scenario gave them some of their own.
    pub(crate) fn disks(&self) -> anyhow::Result<&OwnDisks> {
        let Host::Local(Local { disks: Some(disks), .. }) = &self.host else {
            bail!("the nodes have no disks of their own")
        };
        Ok(disks)
    }

    /// How the clocks of nodes are bent, if the scenario asked for that.
    pub(crate) fn clocks(&self) -> anyhow::Result<&ClockControl> {
        self.clocks.as_ref().context("the nodes were started with the machine's own clocks")
    }

    /// Who contests an election, leading or waiting, of the processes that run.
    pub(crate) async fn candidates(&self, election: &str) -> Vec<String> {
        if election == JOBMANAGERS {
            return self.jobmanager_names();
        }
        self.children.lock().await.keys().filter(|name| !name.contains('-')).cloned().collect()
    }

    /// The process id of something that runs here.
    pub(crate) async fn pid(&self, name: &str) -> Option<u32> {
        self.children.lock().await.get(name)?.id()
    }

    /// Starts a node, JobManager or TaskExecutor, for the first time or again.
    pub(crate) async fn start(&self, name: &str) -> anyhow::Result<()> {
        let spec = match &self.host {
            Host::Compose(compose, own) => {
                compose.start(name).await?;
                return self.readdress(compose, own, name).await;
            }
            Host::Local(local) => match name.split_once('-') {
                Some(("node", id)) => local.node(id.parse()?)?,
                Some(("jm", _)) => local.worker("jobmanager", name, SLOTS).await?,
                Some(("te", _)) => local.worker("taskexecutor", name, SLOTS).await?,
                _ => bail!("'{name}' is not started again: a candidate comes under a new name"),
            },
            Host::Namespaces(spaces) => match name.split_once('-') {
                Some(("node", id)) => spaces.node(id.parse()?),
                _ => bail!("the target namespaces has store nodes only"),
            },
        };
        let spec = match &self.clocks {
            Some(clocks) if name.starts_with("node-") => Spec { env: clocks.environment(name)?, ..spec },
            _ => spec,
        };
        self.launch(name, &spec).await.map(|_| ())
    }

    async fn readdress(&self, compose: &Compose, own: &[Proxy], name: &str) -> anyhow::Result<()> {
        if let Some(("node", id)) = name.split_once('-')
            && let Some(proxy) = id.parse::<usize>().ok().and_then(|id| own.get(id - 1))
        {
            proxy.moved(&compose.address(name).await?);
        }
        Ok(())
    }

    async fn launch(&self, name: &str, spec: &Spec) -> anyhow::Result<Option<Heard>> {
        let mut child = self.launcher.start(name, spec)?;
        if let (Host::Local(local), Some(pid)) = (&self.host, child.id()) {
            local.proxies.who().is(pid, name);
        }
        let words = spec.heard.then(|| heard(&mut child));
        self.children.lock().await.insert(name.to_owned(), child);
        Ok(words)
    }

    /// Starts `palisade ARGS --endpoints …` and hears what it prints.
    pub(crate) async fn speak(&self, name: &str, args: &[String]) -> anyhow::Result<Heard> {
        let mut args = args.to_vec();
        let at = args.iter().position(|word| word == "--").unwrap_or(args.len());
        args.splice(at..at, ["--endpoints".to_owned(), self.endpoints()]);
        let spec = match &self.host {
            Host::Compose(compose, ..) => compose.candidate(name, &args),
            _ => Spec { args, heard: true, ..Spec::default() },
        };
        Ok(self.launch(name, &spec).await?.expect("it is heard"))
    }

    /// Runs `palisade ARGS` to its end; its stdout.
    pub(crate) async fn palisade(&self, args: &[&str]) -> anyhow::Result<String> {
        let endpoints = self.endpoints();
        let mut all = args.to_vec();
        all.extend(["--endpoints", &endpoints, "--output", "json", "--timeout", "3s"]);
        match &self.host {
            Host::Compose(compose, ..) => compose.palisade("te-1", &all).await,
            Host::Local(local) => {
                // Its connections are the harness's own.
                let known = |pid| local.proxies.who().is(pid, CLIENT);
                let gone = |pid| local.proxies.who().gone(pid);
                processes::tool_known(&self.launcher.palisade.display().to_string(), &all, known, gone).await
            }
            Host::Namespaces(_) => processes::tool(&self.launcher.palisade.display().to_string(), &all).await,
        }
    }

    /// Hands in a job that is described in a file; what was printed.
    pub(crate) async fn submit(&self, file: &std::path::Path, described: &serde_json::Value) -> anyhow::Result<String> {
        match &self.host {
            Host::Compose(compose, ..) => compose.submit(&described.to_string()).await,
            _ => self.palisade(&["job", "submit", &file.display().to_string()]).await,
        }
    }

    /// Does it to a process by name. After a kill or an orderly end it is gone, and nobody wonders.
    pub(crate) async fn hit(&self, name: &str, hit: Hit) -> anyhow::Result<()> {
        if let Host::Compose(compose, ..) = &self.host {
            match hit {
                Hit::Kill => compose.kill(name, "KILL").await?,
                Hit::Terminate => compose.kill(name, "TERM").await?,
                Hit::Pause => compose.freeze(name, true).await?,
                Hit::Resume => compose.freeze(name, false).await?,
            }
            if matches!(hit, Hit::Kill | Hit::Terminate)
                && let Some(mut child) = self.children.lock().await.remove(name)
            {
                child.wait().await?;
            }
            return Ok(());
        }
        let mut children = self.children.lock().await;
        match hit {
            Hit::Pause | Hit::Resume => {
                let signal = if hit == Hit::Pause { Signal::SIGSTOP } else { Signal::SIGCONT };
                let child = children.get(name).with_context(|| format!("{name} does not run"))?;
                processes::send(child, signal)
            }
            Hit::Kill | Hit::Terminate => {
                let child = children.remove(name).with_context(|| format!("{name} does not run"));
                drop(children);
                let mut child = child?;
                let pid = child.id();
                match hit {
                    Hit::Kill => processes::kill(&mut child).await?,
                    _ if !processes::terminate(&mut child).await? => {
                        self.unexpected(format!("{name} did not end in order after SIGTERM"));
                    }
                    _ => {}
                }
                if let (Host::Local(local), Some(pid)) = (&self.host, pid) {
                    local.proxies.who().gone(pid);
                }
                Ok(())
            }
        }
    }

    /// A node more: it joins as a learner, catches up, and votes.
    pub(crate) async fn grow(&self, id: usize) -> anyhow::Result<()> {
        let Host::Local(local) = &self.host else { bail!("only the local target can grow") };
        let (address, spec) = local.joining(id).await?;
        let number = id.to_string();
        self.palisade(&["cluster", "add", &number, &address]).await?;
        self.launch(&node_name(id), &spec).await?;
        self.palisade(&["cluster", "promote", &number, "--wait", "30s"]).await.map(|_| ())
    }

    /// That node less: it is removed, and ends by itself.
    pub(crate) async fn shrink(&self, id: usize) -> anyhow::Result<()> {
        let name = node_name(id);
        self.palisade(&["cluster", "remove", &id.to_string()]).await?;
        let mut child = self.children.lock().await.remove(&name).with_context(|| format!("{name} does not run"))?;
        if tokio::time::timeout(SERVES_WITHIN, child.wait()).await.is_err() {
            self.unexpected(format!("{name} was removed and did not stop within {SERVES_WITHIN:?}"));
            processes::kill(&mut child).await?;
        }
        Ok(())
    }

    /// What is wrong with the network from now on, instead of what was before.
    pub(crate) async fn set_faults(&self, faults: Faults) -> anyhow::Result<()> {
        match &self.host {
            Host::Local(local) => local.proxies.set(faults),
            Host::Namespaces(spaces) => spaces.set(&faults)?,
            Host::Compose(..) => bail!("containers are cut off one by one"),
        }
        Ok(())
    }

    /// Takes a container off the network, or puts it back.
    pub(crate) async fn cut_off(&self, name: &str, cut: bool) -> anyhow::Result<()> {
        let Host::Compose(compose, own) = &self.host else { bail!("only containers are cut off as a whole") };
        compose.cut_off(name, cut).await?;
        if cut { Ok(()) } else { self.readdress(compose, own, name).await }
    }

    /// The node that leads the store, as most nodes see it; asked until there is one.
    pub(crate) async fn store_leader(&self) -> anyhow::Result<String> {
        let until = tokio::time::Instant::now() + SERVES_WITHIN;
        while tokio::time::Instant::now() < until {
            let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
            for at in 0..self.shape.nodes {
                let mut api = self.api(at)?;
                let asked = tokio::time::timeout(Duration::from_millis(500), api.status()).await;
                if let Ok(Outcome::Ok(status)) = asked
                    && let Some(leader) = status.store_leader
                {
                    *seen.entry(leader.node_id).or_default() += 1;
                }
            }
            if let Some((id, votes)) = seen.into_iter().max_by_key(|(_, votes)| *votes)
                && votes * 2 > self.shape.nodes
            {
                return Ok(format!("node-{id}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("no majority of the nodes agreed on a store leader within {SERVES_WITHIN:?}")
    }

    /// Waits until a linearizable read is answered.
    pub(crate) async fn serves(&self) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + SERVES_WITHIN;
        let mut api = self.api(0)?;
        while tokio::time::Instant::now() < until {
            if matches!(api.get("up").await, Outcome::Ok(_)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the cluster did not serve within {SERVES_WITHIN:?}")
    }

    /// Writes down what a good system does not do.
    pub(crate) fn unexpected(&self, what: String) {
        let mut record = Record::seen("harness", f::UNEXPECTED);
        record.error = Some(what);
        self.recorder.record(record);
    }

    /// Forgets a candidate that ended by itself because it could not reach the store when it began: its first attempt fails at once, so
    /// that a wrong `--endpoints` is seen. Whether it was that.
    pub(crate) async fn gave_up(&self, name: &str) -> anyhow::Result<bool> {
        let mut children = self.children.lock().await;
        let Some(child) = children.get_mut(name) else { return Ok(false) };
        // Its last word comes a moment before its end.
        let Ok(ended) = tokio::time::timeout(Duration::from_secs(1), child.wait()).await else { return Ok(false) };
        let gave_up = ended?.code().is_some_and(|code| GAVE_UP.contains(&code));
        if gave_up {
            children.remove(name);
        }
        Ok(gave_up)
    }

    /// Writes down what ended by itself, and who said that it panicked.
    pub(crate) async fn look_for_the_unexpected(&self) -> anyhow::Result<()> {
        let mut children = self.children.lock().await;
        for (name, child) in children.iter_mut() {
            if let Some(status) = child.try_wait()? {
                self.unexpected(format!("{name} ended by itself: {status}"));
            }
        }
        if let Host::Compose(compose, ..) = &self.host {
            for name in names(self.shape) {
                if !compose.runs(&name).await {
                    self.unexpected(format!("the container of {name} does not run"));
                }
            }
            std::fs::write(self.launcher.log("containers"), compose.logs().await)?;
        }
        for entry in std::fs::read_dir(&self.launcher.dir)?.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
            if let Some(line) = text.lines().find(|line| line.contains("panicked at")) {
                self.unexpected(format!("{}: {line}", path.display()));
            }
        }
        Ok(())
    }

    /// Kills whatever runs, and takes down what it ran on.
    pub(crate) async fn strike(&self) -> anyhow::Result<()> {
        let mut children = self.children.lock().await;
        for child in children.values_mut() {
            let _ = processes::send(child, Signal::SIGKILL);
        }
        for child in children.values_mut() {
            child.wait().await?;
        }
        children.clear();
        // Not left to the end of this value: a task that hears the last word of a process may outlive the run with it.
        match &self.host {
            Host::Local(local) => local.disks.iter().for_each(OwnDisks::down),
            Host::Compose(compose, _) => compose.down(),
            Host::Namespaces(spaces) => spaces.down(),
        }
        Ok(())
    }
}

fn names(shape: Shape) -> Vec<String> {
    let nodes = (1..=shape.nodes).map(node_name);
    let jobmanagers = (1..=shape.jobmanagers).map(|id| format!("jm-{id}"));
    nodes.chain(jobmanagers).chain((1..=shape.taskexecutors).map(|id| format!("te-{id}"))).collect()
}
