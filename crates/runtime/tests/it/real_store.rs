//! The same with a real store node in this process: JobManagers campaign in it, their records lie in it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use palisade_client::{Client, ClientConfig};
use palisade_runtime::{JobClient, JobId, JobManager, JobManagerConfig, JobState, TaskExecutor, TaskExecutorConfig};
use palisade_server::{Node, NodeConfig, Stores};
use palisade_storage::{DataFolder, FileSnapshots, SledEngine, SledOptions};
use palisade_world::{BootClock, Listener, Net, OsRandom, Socket, TcpNet, World};

use crate::cluster::{ELECTION, MiniCluster, PATIENCE};
use crate::failover::{plain_count, text, until};

const NODE: &str = "store:7070";

/// Loopback where the store node has a name instead of a port that somebody else might take.
#[derive(Default)]
struct Named(Mutex<BTreeMap<String, String>>);

#[async_trait::async_trait]
impl Net for Named {
    async fn connect(&self, address: &str) -> io::Result<Socket> {
        let named = self.0.lock().unwrap().get(address).cloned();
        TcpNet.connect(named.as_deref().unwrap_or(address)).await
    }

    async fn bind(&self, address: &str) -> io::Result<Listener> {
        if address != NODE {
            return TcpNet.bind(address).await;
        }
        let listener = TcpNet.bind("127.0.0.1:0").await?;
        self.0.lock().unwrap().insert(address.to_owned(), listener.local_addr().to_string());
        Ok(listener)
    }
}

async fn node(folder: &Path, world: &World) -> Node {
    let folder = DataFolder::open(folder, world.random_u64()).unwrap();
    let engine = SledEngine::open(&folder, SledOptions::default()).unwrap();
    let snapshots = FileSnapshots::open(&folder).unwrap();
    let stores = Stores {
        store_id: folder.store_id(),
        engine: Arc::new(engine),
        snapshots: Arc::new(snapshots),
        folder: Some(folder),
    };
    Node::start(NodeConfig::new(1, NODE, vec![(1, NODE.to_owned())]), stores, world.clone()).await.unwrap()
}

fn leader_of(jobmanagers: &[JobManager], token: u64) -> Option<&JobManager> {
    jobmanagers.iter().find(|process| process.leads().borrow().is_some_and(|leads| leads.get() == token))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobmanagers_take_over_from_each_other_through_a_real_store() {
    let mut cluster = MiniCluster::new();
    cluster.world = World::new(Arc::new(BootClock), Arc::new(OsRandom), Arc::new(Named::default()));
    let world = cluster.world.clone();
    let store = node(&cluster.path("node"), &world).await;
    let endpoints = vec![NODE.to_owned()];
    let mut jobmanagers = Vec::new();
    for name in ["jm-1", "jm-2", "jm-3"] {
        let config = JobManagerConfig::new(name, cluster.path("storage"), endpoints.clone());
        jobmanagers.push(JobManager::start(config, world.clone()).await.unwrap());
    }
    let mut workers = Vec::new();
    for name in ["te-1", "te-2"] {
        let config = TaskExecutorConfig::new(name, cluster.path("storage"), cluster.path(name), endpoints.clone());
        workers.push(TaskExecutor::start(config, world.clone()).await.unwrap());
    }
    let client = Client::new(ClientConfig { endpoints, request_timeout: PATIENCE }, world.clone()).unwrap();
    let jobs = JobClient::connect(&client, ELECTION, PATIENCE).await.unwrap();
    let contents = [text(11, 90_000), text(12, 30_000)];
    let id: JobId = "real".parse().unwrap();
    cluster
        .within("the job", async {
            jobs.submit(&id, &cluster.word_count(&contents, 4, 4)).await.unwrap();
            for end in ["killed", "ended in order"] {
                let status = until(&jobs, &id, "a checkpoint", |status| status.completed_checkpoints > 0).await;
                let leader = leader_of(&jobmanagers, status.token).expect("one of ours leads").address().to_owned();
                let at = jobmanagers.iter().position(|process| process.address() == leader).unwrap();
                let process = jobmanagers.swap_remove(at);
                match end {
                    "killed" => drop(process),
                    _ => process.shutdown().await,
                }
                let next = until(&jobs, &id, end, |next| next.token > status.token && next.resumed_ms.is_some()).await;
                assert!(next.restored_checkpoint >= status.last_checkpoint, "{next:?} after {status:?}");
            }
            let ended = jobs.wait(&id, |_| ()).await.unwrap();
            assert_eq!(ended.state, JobState::Finished);
            assert_eq!(jobs.result(&id).await.unwrap(), plain_count(&contents));
        })
        .await;
    for worker in workers {
        worker.shutdown().await;
    }
    for process in jobmanagers {
        process.shutdown().await;
    }
    store.shutdown().await;
}
