//! The endpoints of a process by id. Keeps true: one live endpoint per id; an id that only leads at times answers for itself
//! while it does not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use palisade_fence::{ClusterId, LeaderSource, Token};
use palisade_world::{Task, World};

use crate::endpoint::{DEFAULT_MAILBOX, EndpointShared};
use crate::fencing::known_leader;
use crate::inbound::Inbound;
use crate::mailbox::window;
use crate::recipient::{Deliver, Method};
use crate::{AnswerKind, ConnectError, Counters, CreateError, InterfaceInfo, Life, RpcError};

/// An endpoint that this process hosts only while it leads.
#[derive(Clone)]
pub(crate) struct Standby {
    pub(crate) interface: &'static InterfaceInfo,
    pub(crate) source: Option<Arc<dyn LeaderSource>>,
}

/// What the service, its endpoints and its transport share.
pub(crate) struct Registry {
    node: String,
    pub(crate) world: World,
    pub(crate) counters: Counters,
    /// Whether messages within the process are serialized too, and the largest in bytes if so.
    pub(crate) serialize: Option<usize>,
    closed: AtomicBool,
    /// Rises when an endpoint comes or goes: what was looked up before is looked up again.
    generation: AtomicU64,
    tables: Mutex<Tables>,
    /// Endpoint tasks; they end with the service.
    tasks: Mutex<Vec<Task<()>>>,
    /// Highest token seen by this process's gateways, by (cluster, election).
    seen: Mutex<BTreeMap<(ClusterId, String), Arc<AtomicU64>>>,
}

#[derive(Default)]
struct Tables {
    live: BTreeMap<String, Arc<dyn Deliver>>,
    standby: BTreeMap<String, Vec<Standby>>,
}

impl Registry {
    pub(crate) fn new(node: String, world: World, serialize: Option<usize>) -> Registry {
        Registry {
            node,
            world,
            serialize,
            counters: Counters::default(),
            closed: AtomicBool::new(false),
            generation: AtomicU64::new(1),
            tables: Mutex::default(),
            tasks: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// `host:port` that others reach this process at; empty if it does not listen.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    pub(crate) fn add(&self, endpoint: Arc<dyn Deliver>) -> Result<(), CreateError> {
        let mut tables = self.tables();
        // Under the lock, so that closing sees every endpoint that was added before it.
        if self.is_closed() {
            return Err(CreateError::Closed);
        }
        let id = endpoint.shared().id.to_string();
        if tables.live.contains_key(&id) {
            return Err(CreateError::Exists(id));
        }
        tables.live.insert(id, endpoint);
        self.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    pub(crate) fn remove(&self, endpoint: &EndpointShared) {
        let mut tables = self.tables();
        if tables.live.get(&*endpoint.id).is_some_and(|live| live.shared().incarnation == endpoint.incarnation) {
            tables.live.remove(&*endpoint.id);
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn declare(&self, id: &str, standby: Standby) {
        let mut tables = self.tables();
        let declared = tables.standby.entry(id.to_owned()).or_default();
        declared.retain(|known| known.interface.name != standby.interface.name);
        declared.push(standby);
    }

    pub(crate) fn keep(&self, task: Task<()>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Ends every endpoint by force; each still answers what waits.
    pub(crate) fn end_tasks(&self) {
        // Taken out first: what runs when a task is dropped may come back here.
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        drop(tasks);
    }

    /// No endpoint is created from now on. Gives those that live.
    pub(crate) fn close(&self) -> Vec<Arc<EndpointShared>> {
        let tables = self.tables();
        self.closed.store(true, Ordering::Release);
        tables.live.values().map(|endpoint| endpoint.shared().clone()).collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether a gateway may be connected: never a matter of tokens or of having started. Gives how many tells the endpoint
    /// has room for.
    pub(crate) fn handshake(&self, endpoint: &str, interface: &str) -> Result<u64, ConnectError> {
        let tables = self.tables();
        let address = || format!("{}/{endpoint}", self.node);
        let live = tables.live.get(endpoint).map(|live| live.shared().interfaces.clone());
        let room = tables.live.get(endpoint).map_or(DEFAULT_MAILBOX, |live| live.shared().mailbox);
        let standby = tables.standby.get(endpoint).map(|all| all.iter().map(|one| one.interface).collect());
        let served: Vec<&InterfaceInfo> =
            live.or(standby).ok_or_else(|| ConnectError::NoSuchEndpoint { address: address() })?;
        if served.iter().any(|info| info.name == interface) {
            return Ok(window(room));
        }
        let why = format!("it does not serve {interface}");
        Err(ConnectError::Handshake { address: address(), why })
    }

    /// What was looked up under another number may be wrong by now.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The living endpoint of that id and its method; `None` if there is none, or another answers for it.
    pub(crate) fn find(&self, endpoint: &str, interface: &str, method: &str) -> Option<(Arc<dyn Deliver>, Method)> {
        let live = self.tables().live.get(endpoint).cloned()?;
        let method = live.find(interface, method)?;
        let terminated = *live.shared().life.borrow() == Life::Terminated;
        (!terminated).then_some((live, method))
    }

    /// Brings a message to its endpoint. Never blocks.
    pub(crate) fn deliver(&self, endpoint: &str, interface: &str, method: &str, inbound: Inbound) {
        let (live, standby) = {
            let tables = self.tables();
            (tables.live.get(endpoint).cloned(), tables.standby.get(endpoint).cloned())
        };
        match (live, standby) {
            (Some(live), _) if *live.shared().life.borrow() != Life::Terminated => {
                live.deliver(interface, method, inbound);
            }
            (_, Some(standby)) => self.refuse_as_standby(endpoint, interface, &standby, inbound),
            (_, None) => inbound.reply.refuse(RpcError::NoSuchEndpoint { endpoint: endpoint.to_owned() }),
        }
    }

    /// The endpoint that answers an interface for a caller who names none: the only one there is.
    pub(crate) fn only_endpoint(&self, interface: &str) -> Result<String, &'static str> {
        let tables = self.tables();
        let live = tables.live.iter().filter(|(_, live)| live.shared().interfaces.iter().any(|i| i.name == interface));
        let mut ids: Vec<&String> = live.map(|(id, _)| id).collect();
        if ids.is_empty() {
            let standby =
                tables.standby.iter().filter(|(_, all)| all.iter().any(|one| one.interface.name == interface));
            ids = standby.map(|(id, _)| id).collect();
        }
        match ids.as_slice() {
            [] => Err("no endpoint serves this interface"),
            [id] => Ok((*id).clone()),
            _ => Err("several endpoints serve this interface: name one in the metadata palisade-endpoint"),
        }
    }

    fn refuse_as_standby(&self, endpoint: &str, interface: &str, standby: &[Standby], inbound: Inbound) {
        let error = match standby.iter().find(|one| one.interface.name == interface) {
            None => RpcError::NoSuchMethod { method: interface.to_owned() },
            Some(_) if inbound.claim.token.is_none() => RpcError::NoToken("a token"),
            Some(_) if inbound.claim.election.is_empty() => RpcError::NoToken("an election"),
            Some(one) => {
                let (current, leader) = known_leader(one.source.as_deref());
                RpcError::NotLeader { current, leader }
            }
        };
        let own = standby
            .iter()
            .any(|one| one.source.as_ref().is_some_and(|source| source.election() == &*inbound.claim.election));
        let election = if own || inbound.claim.election.is_empty() { &*inbound.claim.election } else { "(other)" };
        self.counters.count(&Arc::from(endpoint), &Arc::from(election), AnswerKind::of(&error));
        inbound.reply.refuse(error);
    }

    /// The highest token that this process's gateways have seen of an election.
    pub(crate) fn seen(&self, cluster: ClusterId, election: &str) -> Arc<AtomicU64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry((cluster, election.to_owned())).or_default().clone()
    }

    /// Notes a token; the error is a higher one that was seen before.
    pub(crate) fn note(seen: &AtomicU64, token: Token) -> Result<(), Token> {
        // Reading alone is enough for all but the first.
        if seen.load(Ordering::Acquire) == token.get() {
            return Ok(());
        }
        match seen.fetch_max(token.get(), Ordering::AcqRel) {
            higher if higher > token.get() => Token::from_wire(higher).map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
