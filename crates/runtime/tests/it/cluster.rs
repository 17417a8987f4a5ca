//! A whole cluster in one process, on real sockets, with an election and a store of the test's own: leaders are granted and
//! killed by hand, and the store loses answers when it is told to.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use palisade_fence::source::Looked;
use palisade_fence::{ClusterId, Fence, LeaderSource, LeaderView, Token};
use palisade_rpc::{RpcService, RpcServiceConfig};
use palisade_runtime::ha::{GetError, HaStore, PutError, RequestKey};
use palisade_runtime::jobmanager::{Components, Office};
use palisade_runtime::storage::StorageFolder;
use palisade_runtime::{Heartbeats, Input, JobClient, JobKind, JobSpec, TaskExecutor, TaskExecutorConfig};
use palisade_world::World;
use tokio::sync::watch;

pub(crate) const ELECTION: &str = "jobmanager";
/// Nothing here takes longer; a test that hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the store does with the next write of a key that contains a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Applies it and loses the answer.
    LoseAnswer,
    /// Loses the request.
    LoseRequest,
}

#[derive(Default)]
struct Stored {
    keys: BTreeMap<String, Vec<u8>>,
    /// Outcomes by request id, as the store remembers them.
    remembered: HashMap<RequestKey, Result<(), PutError>>,
    /// While set: what happens to writes of keys that contain the text.
    fault: Option<(String, Fault)>,
    /// Every attempt at a write of a key, applied or not.
    attempts: Vec<(String, RequestKey)>,
}

/// Election and store in one, as the real one is.
pub(crate) struct Coordination {
    view: watch::Sender<LeaderView>,
    stored: Mutex<Stored>,
    requests: AtomicU64,
}

impl Coordination {
    pub(crate) fn new() -> Arc<Coordination> {
        let view = LeaderView { cluster: ClusterId(7), seq: 1, ..LeaderView::default() };
        Arc::new(Coordination { view: watch::Sender::new(view), stored: Mutex::default(), requests: AtomicU64::new(1) })
    }

    /// The next leadership; its holder has not proclaimed an address yet.
    fn grant(&self) -> Token {
        let mut granted = None;
        self.view.send_modify(|view| {
            view.seq += 1;
            let next = view.seq as u32;
            let token = Token::new(0, next);
            granted = Some(token);
            *view = LeaderView { cluster: view.cluster, seq: view.seq, token: Some(token), ..LeaderView::default() };
        });
        granted.unwrap()
    }

    fn proclaim(&self, token: Token, address: String, components: BTreeMap<String, String>) {
        self.view.send_modify(|view| {
            assert_eq!(view.token, Some(token));
            view.seq += 1;
            view.address = address;
            view.components = components;
        });
    }

    fn stored(&self) -> std::sync::MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fail(&self, key: &str, fault: Option<Fault>) {
        self.stored().fault = fault.map(|fault| (key.to_owned(), fault));
    }

    pub(crate) fn attempts(&self, key: &str) -> Vec<RequestKey> {
        self.stored().attempts.iter().filter(|(of, _)| of.contains(key)).map(|(_, request)| *request).collect()
    }

    pub(crate) fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.stored().keys.iter().find(|(of, _)| of.contains(key)).map(|(_, value)| value.clone())
    }
}

/// A follower of the election.
pub(crate) struct Follower(Arc<Coordination>);

impl LeaderSource for Follower {
    fn election(&self) -> &str {
        ELECTION
    }

    fn latest(&self) -> Option<LeaderView> {
        Some(self.0.view.borrow().clone())
    }

    fn read(&self) -> Looked<'_> {
        Box::pin(async { Ok(self.0.view.borrow().clone()) })
    }

    fn changed(&self, after: u64) -> Pin<Box<dyn Future<Output = LeaderView> + Send + '_>> {
        Box::pin(async move {
            let mut view = self.0.view.subscribe();
            view.wait_for(|view| view.seq > after).await.unwrap().clone()
        })
    }
}

struct Store(Arc<Coordination>);

#[async_trait]
impl HaStore for Store {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, GetError> {
        Ok(self.0.stored().keys.get(key).cloned())
    }

    fn begin(&self) -> Result<RequestKey, PutError> {
        Ok(RequestKey(self.0.requests.fetch_add(1, Ordering::Relaxed)))
    }

    async fn put(&self, request: RequestKey, key: &str, value: Option<&[u8]>, fence: &Fence) -> Result<(), PutError> {
        let current = self.0.view.borrow().token;
        let mut stored = self.0.stored();
        stored.attempts.push((key.to_owned(), request));
        let fault = stored.fault.as_ref().filter(|(text, _)| key.contains(text.as_str())).map(|(_, fault)| *fault);
        if fault == Some(Fault::LoseRequest) {
            return Err(PutError::Unknown("the request was lost".to_owned()));
        }
        let outcome = match stored.remembered.get(&request) {
            Some(remembered) => remembered.clone(),
            None if current != Some(fence.token) => Err(PutError::Stale { current }),
            None => {
                match value {
                    Some(value) => stored.keys.insert(key.to_owned(), value.to_vec()),
                    None => stored.keys.remove(key),
                };
                Ok(())
            }
        };
        stored.remembered.insert(request, outcome.clone());
        if fault == Some(Fault::LoseAnswer) {
            return Err(PutError::Unknown("the answer was lost".to_owned()));
        }
        outcome
    }

    fn forget(&self, request: RequestKey) {
        self.0.stored().remembered.remove(&request);
    }
}

/// A leading JobManager. Dropping it is its death.
pub(crate) struct Leader {
    pub(crate) token: Token,
    pub(crate) service: RpcService,
    _components: Components,
}

/// Folder, election and store of a cluster.
pub(crate) struct MiniCluster {
    pub(crate) coordination: Arc<Coordination>,
    pub(crate) world: World,
    folder: tempfile::TempDir,
}

impl MiniCluster {
    pub(crate) fn new() -> MiniCluster {
        // In memory where there is such a place: what a sync is worth is tested elsewhere, and on a busy disk it takes seconds.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        MiniCluster { coordination: Coordination::new(), world: World::real(), folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn follower(&self) -> Arc<dyn LeaderSource> {
        Arc::new(Follower(self.coordination.clone()))
    }

    /// A new JobManager process that is granted the next leadership and comes to lead.
    pub(crate) async fn lead(&self) -> Leader {
        let service = RpcService::start(RpcServiceConfig::listen("127.0.0.1:0"), self.world.clone()).await.unwrap();
        let token = self.coordination.grant();
        let office = Office {
            service: service.clone(),
            cluster: ClusterId(7),
            fence: Fence { election: ELECTION.to_owned(), token },
            source: self.follower(),
            store: Arc::new(Store(self.coordination.clone())),
            storage: StorageFolder::open(self.world.files(), &self.path("storage")).unwrap(),
            heartbeats: Heartbeats { interval: Duration::from_millis(100), timeout: Duration::from_secs(5) },
            granted: self.world.now(),
            world: self.world.clone(),
        };
        let components = Components::start(office).await.unwrap();
        self.coordination.proclaim(token, components.address().to_owned(), components.addresses());
        Leader { token, service, _components: components }
    }

    pub(crate) async fn task_executor(&self, name: &str, slots: u32) -> TaskExecutor {
        let mut config = TaskExecutorConfig::new(name, self.path("storage"), self.path(name), Vec::new());
        config.slots = slots;
        TaskExecutor::start_following(config, self.follower(), self.world.clone()).await.unwrap()
    }

    pub(crate) async fn client(&self) -> JobClient {
        JobClient::following(self.follower(), PATIENCE, self.world.clone()).await.unwrap()
    }

    /// Writes input files; returns the description of a job that counts them in about `seconds`.
    pub(crate) fn word_count(&self, contents: &[Vec<u8>], parallelism: u32, seconds: u64) -> JobSpec {
        let folder = self.path("input");
        std::fs::create_dir_all(&folder).unwrap();
        for (n, content) in contents.iter().enumerate() {
            std::fs::write(folder.join(format!("{n}.txt")), content).unwrap();
        }
        let total: usize = contents.iter().map(Vec::len).sum();
        JobSpec {
            name: "test".to_owned(),
            kind: JobKind::WordCount,
            input: Input::Path(Path::new(&folder).into()),
            parallelism,
            checkpoint_interval_ms: 50,
            source_bytes_per_second: (seconds > 0).then(|| total as u64 / seconds),
        }
    }

    pub(crate) async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        self.world.timeout(PATIENCE, future).await.unwrap_or_else(|| panic!("{what} took longer than {PATIENCE:?}"))
    }
}
