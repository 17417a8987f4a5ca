//! The same with a real store node in this process: JobManagers campaign in it, their records lie in it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade_client::{Client, ClientConfig, Demand, ElectionSummary, Grant, Reading, TransferOptions};
use palisade_fence::{ClusterId, Token};
use palisade_rpc::{RpcError, RpcGateway, RpcService, RpcServiceConfig, Stamp};
use palisade_runtime::proto::{DispatcherGateway, ResourceManagerGateway};
use palisade_runtime::{JobClient, JobId, JobManager, JobManagerConfig, JobState, TaskExecutor, TaskExecutorConfig};
use palisade_server::{Node, NodeConfig, Stores};
use palisade_storage::{DataFolder, FileSnapshots, SledEngine, SledOptions};
use palisade_world::{BootClock, Listener, Net, OsRandom, Socket, TcpNet, World};

use crate::cluster::{ELECTION, MiniCluster, PATIENCE};
use crate::failover::{plain_count, text, until};
use crate::fencing::{plain_refusal, refusal};

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

/// A store node, three JobManagers and two TaskExecutors.
struct Running {
    cluster: MiniCluster,
    jobmanagers: Vec<JobManager>,
    workers: Vec<TaskExecutor>,
    client: Client,
    jobs: JobClient,
    store: Node,
}

impl Running {
    async fn start() -> Running {
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
        Running { cluster, jobmanagers, workers, client, jobs, store }
    }

    async fn stop(self) {
        for worker in self.workers {
            worker.shutdown().await;
        }
        for process in self.jobmanagers {
            process.shutdown().await;
        }
        self.store.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobmanagers_take_over_from_each_other_through_a_real_store() {
    let mut running = Running::start().await;
    let Running { cluster, jobmanagers, jobs, .. } = &mut running;
    let contents = [text(11, 90_000), text(12, 30_000)];
    let id: JobId = "real".parse().unwrap();
    cluster
        .within("the job", async {
            jobs.submit(&id, &cluster.word_count(&contents, 4, 4)).await.unwrap();
            for end in ["killed", "ended in order"] {
                let status = until(jobs, &id, "a checkpoint", |status| status.completed_checkpoints > 0).await;
                let leader = leader_of(jobmanagers, status.token).expect("one of ours leads").address().to_owned();
                let at = jobmanagers.iter().position(|process| process.address() == leader).unwrap();
                let process = jobmanagers.swap_remove(at);
                match end {
                    "killed" => drop(process),
                    _ => process.shutdown().await,
                }
                let next = until(jobs, &id, end, |next| next.token > status.token && next.resumed_ms.is_some()).await;
                assert!(next.restored_checkpoint >= status.last_checkpoint, "{next:?} after {status:?}");
            }
            let ended = jobs.wait(&id, |_| ()).await.unwrap();
            assert_eq!(ended.state, JobState::Finished);
            assert_eq!(jobs.result(&id).await.unwrap(), plain_count(&contents));
        })
        .await;
    running.stop().await;
}

/// JobManagers are released when they are cut off, so a hand-over is one command, and the holder is told, not asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leading_jobmanager_is_transferred_from_and_the_job_goes_on_under_the_one_that_was_named() {
    let running = Running::start().await;
    let Running { cluster, client, jobs, .. } = &running;
    let contents = [text(13, 90_000), text(14, 30_000)];
    let id: JobId = "transferred".parse().unwrap();
    cluster
        .within("the job", async {
            jobs.submit(&id, &cluster.word_count(&contents, 4, 4)).await.unwrap();
            let mut before: Option<String> = None;
            for _ in 0..2 {
                let status = until(jobs, &id, "a checkpoint", |status| status.completed_checkpoints > 0).await;
                let holder = all_others_wait(client).await;
                assert_eq!(holder.token.get(), status.token);
                // The second time it is the one that came last: without its name another would lead.
                let to = before.unwrap_or_else(|| if holder.candidate == "jm-2" { "jm-3" } else { "jm-2" }.to_owned());
                let transfer = TransferOptions {
                    election: ELECTION.to_owned(),
                    token: Some(holder.token),
                    to: to.clone(),
                    demand: Demand::Request,
                };
                let ended = client.transfer(transfer).await.unwrap();
                assert_eq!(ended.requested, None, "it has ended already");
                let next = client.leader(ELECTION).await.unwrap().expect("a hand-over leaves no gap");
                assert_eq!((&next.candidate, next.token > holder.token), (&to, true));
                let resumed = until(jobs, &id, "the job under the new leader", |it| {
                    it.token == next.token.get() && it.resumed_ms.is_some()
                })
                .await;
                assert!(resumed.restored_checkpoint >= status.last_checkpoint, "{resumed:?} after {status:?}");
                before = Some(holder.candidate);
            }
            let ended = jobs.wait(&id, |_| ()).await.unwrap();
            assert_eq!(ended.state, JobState::Finished);
            assert_eq!(jobs.result(&id).await.unwrap(), plain_count(&contents));
        })
        .await;
    let history = client.history(ELECTION, Reading::Linearizable).await.unwrap();
    let whys: Vec<&str> = history.reigns.iter().map(|reign| reign.why.as_str()).collect();
    assert_eq!(whys, ["transferred", "transferred"], "nothing else befell a leader");
    running.stop().await;
}

/// Who leads, once both others wait: one that was transferred from campaigns again by itself.
async fn all_others_wait(client: &Client) -> Grant {
    loop {
        let elections = client.elections().await.unwrap();
        if let Some(ElectionSummary { leader: Some(leader), waiting: 2, .. }) = elections.into_iter().next() {
            return leader;
        }
        client.world().sleep(Duration::from_millis(5)).await;
    }
}

/// Every method, at a standby, under the token that leads, on a stream and as plain gRPC.
async fn is_refused_by_a_standby<G: RpcGateway>(cluster: &MiniCluster, node: &str, endpoint: &str, token: Token) {
    for (index, method) in G::INTERFACE.methods.iter().enumerate() {
        let what = format!("{}.{}", G::INTERFACE.name, method.name);
        let service = RpcService::start(RpcServiceConfig::local(), cluster.world.clone()).await.unwrap();
        let stamp = Stamp::fixed(ClusterId(0), ELECTION, token);
        let gateway: G = service.connect(&format!("{node}/{endpoint}").parse().unwrap(), stamp).await.unwrap();
        let refused = refusal(gateway.raw(), index).await;
        assert!(matches!(refused, Some(RpcError::NotLeader { .. })), "{what}: {refused:?}");
        let plain =
            plain_refusal(cluster, node, format!("/{}/{}", G::INTERFACE.name, method.name), Some(token)).await.unwrap();
        assert_eq!(plain, format!("not-leader {token}"), "plain {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jobmanager_that_stands_by_refuses_every_method_and_says_who_leads() {
    let running = Running::start().await;
    let Running { cluster, jobmanagers, .. } = &running;
    cluster
        .within("the standby", async {
            let leads = |process: &JobManager| *process.leads().borrow();
            let token = loop {
                if let Some(token) = jobmanagers.iter().find_map(leads) {
                    break token;
                }
                tokio::task::yield_now().await;
            };
            let standby = jobmanagers.iter().find(|process| leads(process).is_none()).expect("one of three leads");
            is_refused_by_a_standby::<DispatcherGateway>(cluster, standby.address(), "dispatcher", token).await;
            is_refused_by_a_standby::<ResourceManagerGateway>(cluster, standby.address(), "resourcemanager", token)
                .await;
        })
        .await;
    running.stop().await;
}
