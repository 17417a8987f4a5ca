//! What ends replication for good is said, and nothing is acknowledged after it.

use std::sync::Arc;

use bytes::Bytes;
use palisade_replica::{Peer, ProposeError, Replica, ReplicaConfig, StartError, Timings};
use palisade_storage::{
    Done, EngineHealth, LogEngine, LogOp, LogState, SimDisk, SimEngine, SimSnapshots, StorageError,
};
use palisade_world::World;

use crate::cluster::{timings, within};
use crate::notes::{Notes, POISON};

/// A simulated disk that syncs after each submit.
struct SyncAtOnce(SimEngine, SimDisk);

impl LogEngine for SyncAtOnce {
    fn state(&self) -> LogState {
        self.0.state()
    }
    fn read(&self, from: u64, to: u64, max: usize) -> Result<Vec<(u64, Bytes)>, StorageError> {
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

fn config(timings: Timings) -> ReplicaConfig {
    ReplicaConfig {
        node_id: 1,
        store_id: 10,
        process: 0,
        address: "127.0.0.1:1".to_owned(),
        timings,
        snapshot_every: 100,
    }
}

async fn start(disk: &SimDisk, timings: Timings) -> Result<Replica<Notes>, StartError> {
    let engine = Arc::new(SyncAtOnce(SimEngine::open(disk).unwrap(), disk.clone()));
    let snapshots = Arc::new(SimSnapshots::open(disk).unwrap());
    Replica::start(config(timings), engine, snapshots, Arc::new(Notes::new()), World::real()).await
}

/// A cluster of one.
async fn alone(disk: &SimDisk) -> Replica<Notes> {
    let replica = start(disk, timings()).await.unwrap();
    let peer = Peer { node_id: 1, address: "127.0.0.1:1".to_owned(), store_id: 10 };
    replica.initialize(vec![peer]).await.unwrap();
    let mut status = replica.status();
    within("it leads itself", status.wait_for(|now| now.leadership.is_some())).await.unwrap();
    replica
}

async fn fatal(replica: &Replica<Notes>) -> String {
    let mut status = replica.status();
    let failed = within("the failure is told", status.wait_for(|now| now.fatal.is_some())).await.unwrap().clone();
    assert_eq!((failed.leadership, failed.store_leader), (None, None));
    failed.fatal.unwrap()
}

#[tokio::test]
async fn a_node_alone_leads_and_restarts() {
    let disk = SimDisk::new();
    let replica = alone(&disk).await;
    assert_eq!(replica.propose(Bytes::from_static(b"one")).await, Ok(1));
    replica.read_barrier().await.unwrap();
    replica.shutdown().await;
    drop(replica);

    let replica = start(&disk, timings()).await.unwrap();
    assert!(replica.is_initialized());
    let mut status = replica.status();
    within("it leads again", status.wait_for(|now| now.leadership.is_some())).await.unwrap();
    assert_eq!(replica.propose(Bytes::from_static(b"two")).await, Ok(2));
}

#[tokio::test]
async fn a_disk_that_fails_ends_replication_and_says_so() {
    let disk = SimDisk::new();
    let replica = alone(&disk).await;
    disk.fail_next_sync();
    let outcome = within("an answer", replica.propose(Bytes::from_static(b"one"))).await;
    assert!(matches!(outcome, Err(ProposeError::Unknown { .. })), "{outcome:?}");
    let why = fatal(&replica).await;
    assert!(why.contains("the disk failed"), "{why}");
    assert_eq!(replica.propose(Bytes::from_static(b"two")).await, Err(ProposeError::Stopped));
}

#[tokio::test]
async fn an_entry_that_cannot_be_applied_ends_replication_and_says_so() {
    let replica = alone(&SimDisk::new()).await;
    let outcome = within("an answer", replica.propose(Bytes::from_static(POISON))).await;
    assert!(matches!(outcome, Err(ProposeError::Unknown { .. })), "{outcome:?}");
    let why = fatal(&replica).await;
    assert!(why.contains("poison was applied"), "{why}");
}

#[tokio::test]
async fn timers_that_contradict_each_other_are_refused() {
    let wrong = Timings { election_min: timings().election_max, ..timings() };
    let Err(StartError::Timings { why }) = start(&SimDisk::new(), wrong).await else { panic!("it must be refused") };
    assert!(why.contains("election"), "{why}");
}
