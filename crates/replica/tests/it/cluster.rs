//! Nodes that can be started, killed and started again, and waits for named conditions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use palisade_replica::{Gate, Leadership, Peer, ProposeError, Replica, ReplicaConfig, ReplicaStatus, Timings};
use palisade_storage::{DataFolder, FileSnapshots, LogEngine, OpenError, SledEngine, SledOptions, SnapshotStore};
use palisade_world::{World, grpc};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::notes::Notes;

/// No condition of these tests takes longer, on the slowest machine.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Slow enough for a machine that does much else.
pub(crate) fn timings() -> Timings {
    Timings {
        heartbeat: Duration::from_millis(60),
        election_min: Duration::from_millis(200),
        election_max: Duration::from_millis(400),
    }
}

/// Waits for what is named, or fails with its name.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = World::real().timeout(BOUND, future).await;
    waited.unwrap_or_else(|| panic!("within {BOUND:?}: {what}"))
}

/// Waits until something is so that nobody signals.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let poll = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(what, poll).await;
}

/// A node that runs.
pub(crate) struct Running {
    pub(crate) replica: Replica<Notes>,
    pub(crate) machine: Arc<Notes>,
    pub(crate) gate: Gate,
    runtime: Option<Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Running {
    pub(crate) fn status(&self) -> watch::Receiver<ReplicaStatus> {
        self.replica.status()
    }

    /// Waits for the first `count` notes.
    pub(crate) async fn has(&self, count: usize) -> Vec<Bytes> {
        let mut list = self.machine.list();
        let reached = within("the notes are applied", list.wait_for(|list| list.len() >= count)).await;
        reached.unwrap()[..count].to_vec()
    }
}

/// A place for a node: an address and a folder that outlive it.
pub(crate) struct Place {
    pub(crate) peer: Peer,
    pub(crate) folder: TempDir,
    pub(crate) running: Option<Running>,
    snapshot_every: u64,
    timings: Timings,
}

impl Place {
    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().expect("the test runs this node")
    }

    /// Starts the node with what its folder holds. A new folder gets `store_id`.
    pub(crate) async fn start(&mut self, store_id: u64) {
        assert!(self.running.is_none(), "the test has ended this node before");
        let folder = self.folder_of(store_id).await;
        let config = ReplicaConfig {
            node_id: self.peer.node_id,
            store_id: folder.store_id(),
            process: 0,
            address: self.peer.address.clone(),
            timings: self.timings.clone(),
            snapshot_every: self.snapshot_every,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (machine, gate) = (Arc::new(Notes::new()), Gate::closed());
        let engine = Arc::new(SledEngine::open(&folder, SledOptions::default()).unwrap());
        let starting = {
            let (machine, gate, address) = (Arc::clone(&machine), gate.clone(), self.peer.address.clone());
            async move {
                let world = World::real();
                let snapshots: Arc<dyn SnapshotStore> = Arc::new(FileSnapshots::open(&folder).unwrap());
                let engine: Arc<dyn LogEngine> = engine;
                let replica = Replica::start(config, engine, snapshots, machine, world.clone()).await.unwrap();
                let listener = world.bind(&address).await.unwrap();
                let router = grpc::server(&world).add_service(replica.peer_service(gate));
                world.spawn("server", router.serve_with_incoming(grpc::incoming(listener))).detach();
                replica
            }
        };
        let replica = runtime.spawn(starting).await.unwrap();
        self.running = Some(Running { replica, machine, gate, runtime: Some(runtime) });
    }

    /// The folder, once the node that was killed has let it go.
    pub(crate) async fn folder_of(&self, store_id: u64) -> DataFolder {
        let mut folder = None;
        until("the folder is free", || match DataFolder::open(self.folder.path(), store_id) {
            Ok(opened) => folder.replace(opened).is_none(),
            Err(OpenError::InUse { .. }) => false,
            Err(error) => panic!("{error}"),
        })
        .await;
        folder.expect("it was opened")
    }

    /// Ends the node as a crash would.
    pub(crate) fn kill(&mut self) {
        drop(self.running.take().expect("the test runs this node"));
    }
}

/// Three places, numbered 1 to 3.
pub(crate) struct Three {
    pub(crate) places: Vec<Place>,
}

impl Three {
    /// Nodes that belong to no cluster, with closed gates.
    pub(crate) async fn waiting(snapshot_every: u64) -> Three {
        Three::waiting_with(snapshot_every, timings()).await
    }

    async fn waiting_with(snapshot_every: u64, timings: Timings) -> Three {
        let mut places = Vec::new();
        for node_id in 1..=3 {
            // A port that is free now; the listener is closed before the node takes it.
            let address = World::real().bind("127.0.0.1:0").await.unwrap().local_addr().to_string();
            let peer = Peer { node_id, address, store_id: node_id << 32 };
            let mut place = Place {
                peer: peer.clone(),
                folder: tempfile::tempdir().unwrap(),
                running: None,
                snapshot_every,
                timings: timings.clone(),
            };
            place.start(peer.store_id).await;
            places.push(place);
        }
        Three { places }
    }

    /// A cluster with a store leader.
    pub(crate) async fn formed(snapshot_every: u64) -> Three {
        Three::formed_with(snapshot_every, timings()).await
    }

    /// The same, with Raft timers of the test's own.
    pub(crate) async fn formed_with(snapshot_every: u64, timings: Timings) -> Three {
        let three = Three::waiting_with(snapshot_every, timings).await;
        for place in &three.places {
            place.running().gate.open();
        }
        three.place(1).running().replica.initialize(three.peers()).await.unwrap();
        three.leader().await;
        three
    }

    pub(crate) fn peers(&self) -> Vec<Peer> {
        self.places.iter().map(|place| place.peer.clone()).collect()
    }

    pub(crate) fn place(&self, node_id: u64) -> &Place {
        &self.places[node_id as usize - 1]
    }

    pub(crate) fn place_mut(&mut self, node_id: u64) -> &mut Place {
        &mut self.places[node_id as usize - 1]
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &Running> {
        self.places.iter().filter_map(|place| place.running.as_ref())
    }

    /// Starts a node again with its old folder, as one that belongs.
    pub(crate) async fn restart(&mut self, node_id: u64) {
        let place = self.place_mut(node_id);
        place.start(0).await;
        place.running().gate.open();
    }

    /// Waits for a node that leads, confirmed by a quorum.
    pub(crate) async fn leader(&self) -> (u64, Leadership) {
        let find = async {
            loop {
                for running in self.runs() {
                    if running.status().borrow().leadership.is_some()
                        && let Ok(leadership) = running.replica.confirm_leadership().await
                    {
                        return (leadership.node, leadership);
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("a store leader that a quorum confirms", find).await
    }

    /// Has a note applied, whoever leads. An unknown outcome fails the test: nothing is broken while it is used.
    pub(crate) async fn note(&self, note: &str) -> usize {
        let entry = Bytes::copy_from_slice(note.as_bytes());
        let apply = async {
            loop {
                let (node, _) = self.leader().await;
                match self.place(node).running().replica.propose(entry.clone()).await {
                    Ok(count) => return count,
                    Err(ProposeError::NotLeader { .. }) => {}
                    Err(error) => panic!("note {note}: {error}"),
                }
            }
        };
        within("a note is applied", apply).await
    }

    /// Nodes that run and do not lead.
    pub(crate) async fn followers(&self) -> Vec<u64> {
        let (leader, _) = self.leader().await;
        let ids = self.places.iter().filter(|place| place.running.is_some()).map(|place| place.peer.node_id);
        ids.filter(|id| *id != leader).collect()
    }
}
