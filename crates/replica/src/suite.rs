//! openraft's own store suite, on both engines. It never reopens a store and never looks at syncs: crates/storage does.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use palisade_storage::{
    DataFolder, Done, EngineHealth, FileSnapshots, LogEngine, LogOp, LogState, SimDisk, SimEngine, SimSnapshots,
    SledEngine, SledOptions, SnapshotStore,
};
use palisade_world::World;

use crate::log_store::LogStore;
use crate::seeds::Seeds;
use crate::snapshots::Snapshots;
use crate::state_machine::MachineStore;
use crate::types::Types;
use crate::{Cluster, Frozen, Machine, MachineError};

/// Remembers nothing: the suite looks at log ids and memberships only.
struct Forgetful;

struct Nothing;

impl Frozen for Nothing {
    fn write(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        take(b"nothing")
    }
}

impl Machine for Forgetful {
    type Reply = ();
    fn apply(&self, _: u64, _: Bytes) {}
    type Frozen = Nothing;
    fn freeze(&self) -> Nothing {
        Nothing
    }
    fn restore(&self, pieces: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), MachineError> {
        let all: Vec<Bytes> = pieces.collect::<io::Result<_>>().unwrap();
        assert_eq!(all.concat(), b"nothing");
        Ok(())
    }
    fn cluster(&self) -> Cluster {
        Cluster::default()
    }
}

type Store = (LogStore<()>, MachineStore<Forgetful>);

fn store(engine: Arc<dyn LogEngine>, snapshots: Arc<dyn SnapshotStore>) -> Store {
    (LogStore::new(engine), MachineStore::new(Arc::new(Forgetful), Snapshots::open(snapshots, World::real()).unwrap()))
}

struct OnSled;

impl StoreBuilder<Types<()>, LogStore<()>, MachineStore<Forgetful>, tempfile::TempDir> for OnSled {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore<()>, MachineStore<Forgetful>), StorageError<Types<()>>> {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path(), 1).unwrap();
        let engine = SledEngine::open(&folder, SledOptions::default()).unwrap();
        let snapshots = FileSnapshots::open(&folder).unwrap();
        let (log, machine) = store(Arc::new(engine), Arc::new(snapshots));
        Ok((root, log, machine))
    }
}

/// Syncs after each submit: the suite waits for votes and appends, and nobody else would.
struct SyncAtOnce(SimEngine, SimDisk);

impl LogEngine for SyncAtOnce {
    fn state(&self) -> LogState {
        self.0.state()
    }
    fn read(&self, from: u64, to: u64, max: usize) -> Result<Vec<(u64, Bytes)>, palisade_storage::StorageError> {
        self.0.read(from, to, max)
    }
    fn submit(&self, ops: Vec<LogOp>, done: Option<Done>) {
        self.0.submit(ops, done);
        self.1.sync();
    }
    fn health(&self) -> EngineHealth {
        self.0.health()
    }
}

struct OnSim;

impl StoreBuilder<Types<()>, LogStore<()>, MachineStore<Forgetful>, ()> for OnSim {
    async fn build(&self) -> Result<((), LogStore<()>, MachineStore<Forgetful>), StorageError<Types<()>>> {
        let disk = SimDisk::new();
        let engine = SyncAtOnce(SimEngine::open(&disk).unwrap(), disk.clone());
        let snapshots = SimSnapshots::open(&disk).unwrap();
        let (log, machine) = store(Arc::new(engine), Arc::new(snapshots));
        Ok(((), log, machine))
    }
}

#[tokio::test]
async fn openraft_store_suite_on_sled() {
    Seeds::new(World::real()).scope(Suite::test_all(OnSled)).await.unwrap();
}

#[tokio::test]
async fn openraft_store_suite_on_the_simulated_disk() {
    Seeds::new(World::real()).scope(Suite::test_all(OnSim)).await.unwrap();
}
