//! Processes on this machine. Every one is reached through a proxy of the harness, and listens on another port each time that it
//! starts: a port that was free a moment ago may be somebody else's now.

use std::path::PathBuf;

use crate::net::Proxies;
use crate::processes::{Spec, free_addresses};
use crate::targets::{OwnDisks, Shape, node_name};

/// What the target knows of its processes: how each is started.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) proxies: Proxies,
    pub(crate) disks: Option<OwnDisks>,
    dir: PathBuf,
    /// By node: the address that everybody uses.
    nodes: Vec<String>,
}

impl Local {
    /// Puts a proxy before each node that there will be.
    pub(crate) async fn new(shape: Shape, disks: Option<OwnDisks>, dir: PathBuf, seed: u64) -> anyhow::Result<Local> {
        let proxies = Proxies::new(seed);
        let mut nodes = Vec::new();
        for id in 1..=shape.nodes {
            nodes.push(proxies.before(&node_name(id), "127.0.0.1:1").await?);
        }
        Ok(Local { proxies, disks, dir, nodes })
    }

    /// What clients among the processes are given as `--endpoints`.
    pub(crate) fn endpoints(&self) -> String {
        self.nodes.join(",")
    }

    pub(crate) fn node_address(&self, id: usize) -> &str {
        &self.nodes[id - 1]
    }

    /// Where a node's data lies.
    pub(crate) fn data(&self, id: usize) -> PathBuf {
        match &self.disks {
            None => self.dir.join(node_name(id)),
            Some(disks) => disks.below().join(node_name(id)).join("data"),
        }
    }

    /// How a store node is started, on a port that is free now.
    pub(crate) fn node(&self, id: usize) -> anyhow::Result<Spec> {
        let listen = free_addresses(1)?.remove(0);
        self.proxies.moved(&node_name(id), &listen);
        let initial: Vec<_> = (1..).zip(&self.nodes).map(|(id, address)| format!("{id}={address}")).collect();
        let data = self.data(id).display().to_string();
        let (id, initial) = (id.to_string(), initial.join(","));
        let advertise = self.node_address(id.parse().unwrap_or(1)).to_owned();
        let args = ["server", "--id", &id, "--listen", &listen, "--advertise", &advertise, "--data", &data];
        let mut args: Vec<String> = args.map(str::to_owned).to_vec();
        args.extend(["--initial".to_owned(), initial]);
        Ok(Spec { args, ..Spec::default() })
    }

    /// How a node is started that joins a running cluster, and the address that everybody is to use for it.
    pub(crate) async fn joining(&self, id: usize) -> anyhow::Result<(String, Spec)> {
        let listen = free_addresses(1)?.remove(0);
        let name = node_name(id);
        let advertise = self.proxies.before(&name, &listen).await?;
        let (number, data) = (id.to_string(), self.dir.join(&name).display().to_string());
        let join = self.endpoints();
        let args = ["server", "--id", &number, "--listen", &listen, "--advertise", &advertise, "--data", &data];
        let mut args: Vec<String> = args.map(str::to_owned).to_vec();
        args.extend(["--join".to_owned(), join]);
        Ok((advertise, Spec { args, ..Spec::default() }))
    }

    /// How a JobManager or TaskExecutor is started.
    pub(crate) async fn worker(&self, kind: &str, name: &str, slots: u32) -> anyhow::Result<Spec> {
        let listen = free_addresses(1)?.remove(0);
        let advertise = match self.proxies.address(name) {
            Some(address) => {
                self.proxies.moved(name, &listen);
                address
            }
            None => self.proxies.before(name, &listen).await?,
        };
        let storage = self.dir.join("storage").display().to_string();
        let args = [kind, "--id", name, "--listen", &listen, "--advertise", &advertise, "--storage", &storage];
        let mut args: Vec<String> = args.map(str::to_owned).to_vec();
        args.extend(["--endpoints".to_owned(), self.endpoints()]);
        if kind == "taskexecutor" {
            let data = self.dir.join(name).display().to_string();
            args.extend(["--data".to_owned(), data, "--slots".to_owned(), slots.to_string()]);
        }
        Ok(Spec { args, ..Spec::default() })
    }
}
