//! What is measured: the cluster of `--endpoints`, or three nodes of our own that end with the measurement.

use std::path::{Path, PathBuf};
use std::time::Duration;

use palisade_client::{Client, ClientConfig, PutOptions};
use palisade_world::World;

use crate::cli::Global;
use crate::exit::Failure;
use crate::processes::{Process, start_cluster};

/// Nodes of a cluster of our own.
const NODES: usize = 3;

/// Connections that all callers share: the same for every store that we compare with.
pub(super) const CONNECTIONS: usize = 12;

/// How long a new cluster may take until it serves.
const SERVES: Duration = Duration::from_secs(20);

/// How long a node may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// A folder that goes away with this.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(world: &World) -> Result<Folder, Failure> {
        let name = format!("palisade-bench-{}-{:08x}", std::process::id(), world.random_u64() as u32);
        let folder = Folder(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0)?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // it is in the folder for temporary files
    }
}

/// A process and its data folder.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) process: u32,
    pub(super) data: PathBuf,
}

/// The cluster that is measured.
pub(super) struct Nodes {
    pub(super) endpoints: Vec<String>,
    /// Empty: it is not ours. Dropped before their folder.
    pub(super) own: Vec<Process>,
    /// Holds their data and logs.
    folder: Option<Folder>,
    timeout: Duration,
    world: World,
}

impl Nodes {
    /// Nodes of our own; it is returned once they serve.
    pub(super) async fn start(global: &Global, world: &World) -> Result<Nodes, Failure> {
        let folder = Folder::new(world)?;
        let own = start_cluster(NODES, &folder.0, world).await?;
        let endpoints = own.iter().map(|node| node.address.clone()).collect();
        let nodes = Nodes { endpoints, own, folder: Some(folder), timeout: global.timeout, world: world.clone() };
        nodes.client_with(SERVES)?.put(PutOptions::new("bench/up", "")).await?;
        Ok(nodes)
    }

    /// Nodes of our own if they are asked for, else those of `--endpoints`.
    pub(super) async fn of(own: bool, global: &Global, world: &World) -> Result<Nodes, Failure> {
        if own {
            return Nodes::start(global, world).await;
        }
        let (endpoints, timeout) = (global.endpoints.clone(), global.timeout);
        Ok(Nodes { endpoints, own: Vec::new(), folder: None, timeout, world: world.clone() })
    }

    /// A client with connections of its own.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        self.client_with(self.timeout)
    }

    pub(super) fn client_with(&self, request_timeout: Duration) -> Result<Client, Failure> {
        let config = ClientConfig { endpoints: self.endpoints.clone(), request_timeout };
        Client::new(config, self.world.clone())
            .map_err(|error| Failure::usage("--endpoints", self.endpoints.join(","), error.to_string()))
    }

    /// The clients of this many callers: at most [`CONNECTIONS`], at least one.
    pub(super) fn clients(&self, callers: u32) -> Result<Vec<Client>, Failure> {
        let count = CONNECTIONS.min(usize::try_from(callers).unwrap_or(CONNECTIONS)).max(1);
        (0..count).map(|_| self.client()).collect()
    }

    /// Where nodes of our own are, to look at them.
    pub(super) fn places(&self) -> Vec<Place> {
        let folder = self.folder.as_ref().map(|folder| folder.0.clone()).unwrap_or_default();
        let place = |node: &Process| Some(Place { process: node.id()?, data: folder.join(&node.name) });
        self.own.iter().filter_map(place).collect()
    }

    /// Ends nodes of our own in order.
    pub(super) async fn stop(self) {
        for node in self.own {
            node.stop(GRACE, &self.world).await;
        }
    }
}
