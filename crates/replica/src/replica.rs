//! The handle of a running replica: how it starts, what can be asked of it, how it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, InitializeError as RaftInitializeError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use palisade_planted::{self as planted, Bug};
use palisade_storage::{LogEngine, Snapshot as Saved, SnapshotStore};
use palisade_wire::replica::v1 as wire;
use palisade_wire::replica::v1::replica_service_server::ReplicaServiceServer;
use palisade_world::{Task, World};
use tokio::sync::{Semaphore, watch};

use crate::acknowledged::Acknowledged;
use crate::credentials::Credentials;
use crate::figures::{RaftFigures, ReplicaMetrics};
use crate::links::LinkTable;
use crate::log_store::LogStore;
use crate::network::Network;
use crate::quorum::Quorum;
use crate::reach::Reach;
use crate::rounds::{self, Ask, Confirmed, Rounds, hint};
use crate::seeds::Seeds;
use crate::snapshot_transfer::Arriving;
use crate::snapshots::{SnapshotData, Snapshots};
use crate::state_machine::{Applied, MachineStore};
use crate::succession::{self, Succession};
use crate::types::{LeaderId, LogId, Membership, Node, Payload, Snapshot, SnapshotMeta, StoredMembership, Types, Vote};
use crate::watcher::{self, Stopping};
use crate::{
    Change, ChangeError, Cluster, ConfirmError, Gate, Hello, HelloError, InitializeError, Leadership, Level, Machine,
    Members, Peer, PeerService, ProposeError, ReadError, ReplicaConfig, ReplicaStatus, Restored, Role, Room,
    StartError, Timings, codec,
};

/// The largest entry that may be proposed: above the largest batch, and half of what a peer accepts in one message.
pub const MAX_ENTRY_BYTES: usize = 4 << 20;

/// What a peer accepts in one message: what is read at once for replication, or a single entry of the largest size, with
/// room to spare. An append that a follower cannot take would stop the cluster.
pub(crate) const MAX_MESSAGE_BYTES: usize = 2 * MAX_ENTRY_BYTES;

/// Proposals in flight. The server gathers commands into few entries; this only bounds what a bug could pile up.
const IN_FLIGHT: usize = 1_024;

/// How long a node has to say who it is.
pub(crate) const HELLO_LIMIT: Duration = Duration::from_secs(1);

/// Different refusals that are remembered so that each is logged once.
const NOTED_REFUSALS: usize = 64;

/// How long a follower may leave an append without an answer, at least: a slow disk is no reason to send it again.
const MIN_PATIENCE: Duration = Duration::from_secs(1);

/// The place in the log of a state that was restored: behind it, the log goes on.
const FIRST_RESTORED: u64 = 1;

/// How long openraft's core may take to show what it has read from the store before it started.
const MEMBERSHIP_LIMIT: Duration = Duration::from_secs(1);

/// A running replica. Cheap to clone. It runs until [`Replica::shutdown`], or until the last handle is dropped, which ends
/// it at once, as a crash would.
pub struct Replica<M: Machine>(pub(crate) Arc<Inner<M>>);

impl<M: Machine> Clone for Replica<M> {
    fn clone(&self) -> Self {
        Replica(Arc::clone(&self.0))
    }
}

pub(crate) type RaftOf<M> = Raft<Types<<M as Machine>::Reply>, MachineStore<M>>;

/// What all handles share, and what other nodes reach through [`PeerService`] while there is a handle.
pub(crate) struct Inner<M: Machine> {
    pub(crate) raft: RaftOf<M>,
    pub(crate) seeds: Seeds,
    pub(crate) credentials: Arc<Credentials<M>>,
    pub(crate) links: LinkTable,
    pub(crate) snapshots: Snapshots,
    pub(crate) arriving: Arriving,
    pub(crate) succession: Succession,
    pub(crate) reach: Arc<Reach>,
    pub(crate) rounds: Rounds,
    metrics: Arc<ReplicaMetrics>,
    pub(crate) applied: watch::Receiver<Applied>,
    /// Whether the store held a cluster's log when it was opened.
    found_log: bool,
    in_flight: Semaphore,
    /// One change of the members at a time.
    pub(crate) changing: Arc<Semaphore>,
    stopping: Stopping,
    pub(crate) timings: Timings,
    refusals: Mutex<BTreeSet<String>>,
    /// End with the last handle.
    tasks: Mutex<Vec<Task<()>>>,
    pub(crate) world: World,
}

impl<M: Machine> Replica<M> {
    /// Starts a replica from what its store holds: restores the latest snapshot and applies the log again as far as it is
    /// known to be committed. It takes part in the cluster that it finds; without one it waits.
    pub async fn start(
        config: ReplicaConfig,
        engine: Arc<dyn LogEngine>,
        snapshots: Arc<dyn SnapshotStore>,
        machine: Arc<M>,
        world: World,
    ) -> Result<Replica<M>, StartError> {
        let raft_config = Arc::new(config.raft()?);
        let log = engine.state();
        let snapshots = Snapshots::open(snapshots, world.clone())?;
        let known = machine.level().known;
        if let Some((restored, _)) = snapshots.restored().filter(|(restored, _)| restored.level > known) {
            return Err(StartError::Level { at: restored.level, known });
        }
        let found_log = log.last.is_some() || log.purged.is_some() || snapshots.any();
        let store = MachineStore::new(Arc::clone(&machine), snapshots.clone());
        let applied = store.applied();
        let (status, status_watch) = watch::channel(ReplicaStatus::unknown());
        let ReplicaConfig { node_id, store_id, process, timings, .. } = config;
        let acknowledged = Acknowledged::default();
        let credentials =
            Arc::new(Credentials { node_id, store_id, process, acknowledged, machine, status: status_watch });
        let links = LinkTable::new(world.clone());
        let succession = Succession::new(timings.election_max, world.clone());
        let reach: Arc<Reach> = Arc::default();
        let network = Network {
            succession: succession.clone(),
            links: links.clone(),
            credentials: Arc::clone(&credentials),
            reach: Arc::clone(&reach),
            snapshots: snapshots.clone(),
            world: world.clone(),
            patience: MIN_PATIENCE.max(timings.election_max * 4),
        };
        let seeds = Seeds::new(world.clone());
        let raft = seeds
            .scope(Raft::new(node_id, raft_config, network, LogStore::new(engine), store))
            .await
            .map_err(|fatal: Fatal<Types<M::Reply>>| StartError::Store { why: fatal.to_string() })?;

        let stopping = Stopping::default();
        let metrics = Arc::<ReplicaMetrics>::default();
        let (rounds, questions) = rounds::rounds();
        let quorum = Quorum::new(
            raft.clone(),
            seeds.clone(),
            Arc::clone(&credentials),
            links.clone(),
            timings.election_max,
            world.clone(),
        );
        let tasks = vec![
            world.spawn("replica status", watcher::watch_metrics(raft.metrics(), status, Arc::clone(&stopping))),
            world.spawn("quorum rounds", rounds::run(questions, Timed(quorum, Arc::clone(&metrics), world.clone()))),
        ];
        if found_log {
            // Before it answers anybody, it must know whom its membership names.
            let mut known = credentials.status.clone();
            let read = known.wait_for(|now| !now.members.is_empty() || now.fatal.is_some());
            if world.timeout(MEMBERSHIP_LIMIT, read).await.is_none() {
                tracing::warn!(node = node_id, "the log names no members");
            }
        }
        let replica = Arc::new(Inner {
            raft,
            seeds,
            credentials,
            links,
            snapshots,
            arriving: Arriving::default(),
            succession: succession.clone(),
            reach,
            rounds,
            metrics,
            applied,
            found_log,
            in_flight: Semaphore::new(IN_FLIGHT),
            changing: Arc::new(Semaphore::new(1)),
            stopping,
            timings,
            refusals: Mutex::default(),
            tasks: Mutex::new(tasks),
            world: world.clone(),
        });
        let watch = world.spawn("succession", succession::watch(succession, Arc::downgrade(&replica)));
        replica.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(watch);
        Ok(Replica(replica))
    }

    /// Whether this node has a cluster's log.
    pub fn is_initialized(&self) -> bool {
        self.0.is_initialized()
    }

    /// Forms a cluster of these nodes, all voters, of which this is one. To be called on one of them, once.
    pub async fn initialize(&self, peers: Vec<Peer>) -> Result<(), InitializeError> {
        let members = self.named(peers)?;
        match self.0.seeds.scope(self.0.raft.initialize(members)).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(RaftInitializeError::NotAllowed(_))) => Err(InitializeError::AlreadyInitialized),
            Err(RaftError::APIError(RaftInitializeError::NotInMembers(_))) => Err(InitializeError::NotNamed),
            Err(RaftError::Fatal(fatal)) => Err(InitializeError::Stopped { why: fatal.to_string() }),
        }
    }

    /// What this node was restored from, with the state itself, until its cluster is formed.
    pub fn restored(&self) -> Option<(Restored, Saved)> {
        self.0.snapshots.restored()
    }

    /// As [`Replica::initialize`], of a cluster that begins with a state. The others get it from this node, as any node gets what it
    /// lacks: a snapshot that nobody has written the entries of.
    ///
    /// Safe to repeat after an error, also after a restart: until it has come to its end this node has no cluster.
    pub async fn initialize_from(&self, peers: Vec<Peer>, state: M::Frozen) -> Result<(), InitializeError> {
        let members = self.named(peers)?;
        if self.is_initialized() {
            return Err(InitializeError::AlreadyInitialized);
        }
        // The state comes from a leadership of no node, which is over: whoever leads first has a later one.
        let vote = self.0.raft.metrics().borrow_watched().vote;
        let mine = vote.leader_id.node_id == 0 && vote.leader_id.term > 0;
        let term = if mine { vote.leader_id.term } else { vote.leader_id.term + 1 };
        let leader_id = LeaderId { term, node_id: 0 };
        let first = LogId { leader_id, index: FIRST_RESTORED };
        let store = |error: &dyn std::fmt::Display| InitializeError::Store { why: error.to_string() };
        let voters = members.keys().copied().collect();
        let membership = Membership::new(vec![voters], members).map_err(|error| store(&error))?;
        let meta =
            SnapshotMeta { last_log_id: Some(first), last_membership: StoredMembership::new(Some(first), membership) };
        let draft = self.0.snapshots.draft(&meta, state).await.map_err(|error| store(&error))?;
        let snapshot = Snapshot { meta, snapshot: SnapshotData::received(draft) };
        let vote = Vote { leader_id, committed: true };
        let installed = self.0.seeds.scope(self.0.raft.install_full_snapshot(vote, snapshot)).await;
        match installed {
            Ok(answer) if answer.vote == vote => Ok(()),
            Ok(answer) => Err(store(&format!("a vote of {} is in its way", answer.vote))),
            Err(fatal) => Err(InitializeError::Stopped { why: fatal.to_string() }),
        }
    }

    fn named(&self, peers: Vec<Peer>) -> Result<BTreeMap<u64, Node>, InitializeError> {
        let Credentials { node_id, store_id, .. } = *self.0.credentials;
        if !peers.iter().any(|peer| peer.node_id == node_id && peer.store_id == store_id) {
            return Err(InitializeError::NotNamed);
        }
        let node = |Peer { node_id, address, store_id }| (node_id, Node { address, store_id, highest_id: 0 });
        Ok(peers.into_iter().map(node).collect())
    }

    /// Has an entry applied. Only this node is asked: it is never forwarded. Cancelling it does not take the entry back.
    ///
    /// `entry` has at most [`MAX_ENTRY_BYTES`], or this panics: a longer one could not be replicated.
    pub async fn propose(&self, entry: Bytes) -> Result<M::Reply, ProposeError> {
        self.0.write(None, entry).await
    }

    /// Has an entry applied if, when it is put into the log, this node still leads the store under `leadership`.
    /// Otherwise as [`Replica::propose`].
    pub async fn propose_as(&self, leadership: Leadership, entry: Bytes) -> Result<M::Reply, ProposeError> {
        self.0.write(Some(leadership), entry).await
    }

    /// Asks a quorum, in a round that begins after this call, whether this node leads the store and has applied its own
    /// first entry. Ends within the election timeout, or a little more when it waits for a round to end. Concurrent
    /// callers share rounds. Cancelling it is harmless.
    pub async fn confirm_leadership(&self) -> Result<Leadership, ConfirmError> {
        let confirmed = self.0.rounds.next().await?;
        let ready = self.0.applied.borrow().is_some_and(|applied| applied.leader_id >= confirmed.read.leader_id);
        let ready = ready || planted::is(Bug::AttachWithoutAppliedFirstEntry);
        // It leads, but keeps silent until it knows everything that was acknowledged before it.
        if ready { Ok(confirmed.leadership) } else { Err(ConfirmError::NotLeader { hint: None }) }
    }

    /// When it returns, the machine has applied everything that was acknowledged to anybody before this call. Shares
    /// rounds with [`Replica::confirm_leadership`]. Cancelling it is harmless.
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        let confirmed = self.0.rounds.next().await?;
        let mut applied = self.0.applied.clone();
        let reached = applied.wait_for(|applied| applied.is_some_and(|id| id.index >= confirmed.read.index)).await;
        reached.map(drop).map_err(|_| ReadError::Stopped)
    }

    /// What it counts.
    pub fn metrics(&self) -> &ReplicaMetrics {
        &self.0.metrics
    }

    /// How far this node is, and at the store leader how far the others are. Costs a look at a few numbers.
    pub fn figures(&self) -> RaftFigures {
        RaftFigures::of(&self.0.raft.metrics().borrow_watched())
    }

    /// What this node knows about itself and who leads.
    pub fn status(&self) -> watch::Receiver<ReplicaStatus> {
        self.0.credentials.status.clone()
    }

    /// Asks whoever answers at an address who it is. Ends within a second.
    pub async fn hello(&self, address: &str) -> Result<Hello, HelloError> {
        let mut client = self.0.links.stranger(address).map_err(|bad| HelloError::Address(bad.to_string()))?;
        let Credentials { node_id, store_id, .. } = *self.0.credentials;
        let no_answer = |why: String| HelloError::NoAnswer { address: address.to_owned(), why };
        match self.0.world.timeout(HELLO_LIMIT, client.hello(wire::HelloRequest { node_id, store_id })).await {
            None => Err(no_answer(format!("not within {HELLO_LIMIT:?}"))),
            Some(Err(status)) => Err(no_answer(format!("{:?}: {}", status.code(), status.message()))),
            Some(Ok(reply)) => {
                let wire::HelloReply {
                    node_id,
                    store_id,
                    cluster_id,
                    generation,
                    initialized,
                    names_you,
                    process,
                    acknowledged,
                    removed_you,
                    disk_is_full,
                    restored,
                    level,
                    cluster_level,
                } = reply.into_inner();
                let cluster = Cluster { id: cluster_id, generation };
                Ok(Hello {
                    node_id,
                    store_id,
                    cluster,
                    initialized,
                    names_you,
                    process,
                    acknowledged,
                    removed_you,
                    disk_is_full,
                    restored: restored.map(codec::restored_from),
                    level: Level { known: level, at: cluster_level.max(1) },
                })
            }
        }
    }

    /// The service that other nodes call. Votes, appends and snapshots are refused until `gate` is open.
    pub fn peer_service(&self, gate: Gate) -> ReplicaServiceServer<PeerService<M>> {
        ReplicaServiceServer::new(PeerService::new(Arc::downgrade(&self.0), gate))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Asks a voter to take the leadership of the store over, if this node has it. Returns whether this node gave it up within
    /// twice the election timeout; who has it then, the status shows. Cancelling it takes nothing back.
    pub async fn hand_over_to(&self, node_id: u64) -> bool {
        self.0.hand_over_to(node_id).await
    }

    /// Who belongs to the cluster, as this node knows it.
    pub fn members(&self) -> Members {
        self.0.members()
    }

    /// Changes who belongs to the cluster, if this node leads the store. It returns when the change is committed, and may be
    /// asked for again whatever became of it. Cancelling it takes nothing back. It waits as long as there is no quorum.
    pub async fn change(&self, change: &Change) -> Result<Members, ChangeError> {
        self.0.change(change).await
    }

    /// Has a voter that answers and has caught up lead the store, if this node does. It returns when that node leads. Bounded by
    /// a few election timeouts.
    pub async fn transfer(&self, to: u64) -> Result<Members, ChangeError> {
        self.0.transfer(to).await
    }

    /// Asks the voters, the furthest first, to take the leadership of the store over, if this node has it; one whose disk is full
    /// is passed over. Returns whether this node gave it up. Bounded by a second and twice the election timeout for each voter.
    pub async fn hand_over(&self) -> bool {
        let leads = || self.0.credentials.status.borrow().role == Role::Leader;
        for to in self.0.voters_by_log() {
            let address = self.0.credentials.status.borrow().member(to).map(|peer| peer.address.clone());
            let Some(address) = address.filter(|_| leads()) else { continue };
            let willing = self.hello(&address).await.is_ok_and(|hello| hello.node_id == to && !hello.disk_is_full);
            if willing && self.0.hand_over_to(to).await {
                return true;
            }
        }
        false
    }

    /// Says how much room there is on this node's disk.
    pub fn room_is(&self, room: Room) {
        self.0.snapshots.room().set(room);
    }

    /// Stops replication; a store leader first hands over, as [`Replica::hand_over`] does. What is in flight ends as unknown.
    /// Bounded by the time for that and what the disk needs.
    pub async fn shutdown(&self) {
        self.hand_over().await;
        self.0.stopping.store(true, Ordering::Release);
        self.0.snapshots.stop();
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "a task of replication did not end well");
        }
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        drop(tasks);
    }
}

impl<M: Machine> Inner<M> {
    pub(crate) fn is_initialized(&self) -> bool {
        self.found_log || !self.credentials.status.borrow().members.is_empty()
    }

    /// Logs why another node was refused, each reason once.
    pub(crate) fn note_refused(&self, why: &str) {
        let mut noted = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.contains(why) {
            return;
        }
        if noted.len() >= NOTED_REFUSALS {
            noted.clear();
        }
        noted.insert(why.to_owned());
        tracing::warn!(node = self.credentials.node_id, why, "refused a call of another node");
    }

    async fn write(&self, condition: Option<Leadership>, entry: Bytes) -> Result<M::Reply, ProposeError> {
        if entry.len() > MAX_ENTRY_BYTES {
            tracing::error!(
                bytes = entry.len(),
                limit = MAX_ENTRY_BYTES,
                "an entry is too large: its batch was weighed wrongly"
            );
            return Err(ProposeError::Overloaded);
        }
        let _room = self.in_flight.try_acquire().map_err(|_| ProposeError::Overloaded)?;
        if self.stopping.load(Ordering::Acquire) || self.raft.metrics().borrow_watched().running_state.is_err() {
            return Err(ProposeError::Stopped);
        }
        let (responder, committed, outcome) = ProgressResponder::new();
        let began = self.world.now();
        let request = self.raft.write(Payload(entry)).responder(responder);
        let request = match condition {
            Some(leadership) => request.with_leader(LeaderId::from(leadership)),
            None => request,
        };
        // The core may have taken it before it ended: nothing is known.
        self.seeds.scope(request.into_future()).await.map_err(unknown)?;
        if committed.await.is_ok() {
            self.metrics.commit.observe(self.world.now().saturating_sub(began));
        }
        let result: ClientWriteResult<Types<M::Reply>> = outcome.await.map_err(|_| unknown("replication ended"))?;
        match result {
            Ok(applied) => applied.data.0.ok_or_else(|| unknown("the entry was applied as one without a reply")),
            // openraft says this only for entries that it has not put into the log.
            Err(ClientWriteError::ForwardToLeader(ForwardToLeader { leader_id, leader_node, .. })) => {
                Err(ProposeError::NotLeader { hint: hint(leader_id, leader_node, self.credentials.node_id) })
            }
            Err(error) => Err(unknown(error)),
        }
    }

    pub(crate) async fn hand_over_to(&self, to: u64) -> bool {
        let mut status = self.credentials.status.clone();
        // Nobody takes over who does not vote, and asking costs this store leader its lease.
        let may = to != self.credentials.node_id && self.raft.voter_ids().any(|id| id == to);
        let leads = may && status.borrow().role == Role::Leader;
        if !leads || self.seeds.scope(self.raft.trigger().transfer_leader(to)).await.is_err() {
            return false;
        }
        let given = status.wait_for(|now| now.role != Role::Leader);
        let limit = self.timings.election_max * 2;
        let given = self.world.timeout(limit, given).await.is_some();
        if !given {
            tracing::info!(to, "leadership was not taken over in time");
        }
        given
    }

    /// The followers that vote: first the one that is furthest of those that answer, then those that have most of the log.
    fn voters_by_log(&self) -> Vec<u64> {
        // Before the metrics are borrowed, which it reads, too.
        let first = self.successor();
        let voters: BTreeSet<u64> = self.raft.voter_ids().collect();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let others = metrics.replication.iter().flatten();
        let others = others.filter(|(id, _)| voters.contains(id) && **id != metrics.id);
        let mut others: Vec<_> = others.map(|(id, matched)| (std::cmp::Reverse(*matched), *id)).collect();
        others.sort();
        first.into_iter().chain(others.into_iter().map(|(_, id)| id).filter(|id| Some(*id) != first)).collect()
    }
}

/// Notes how long the rounds of `by` take.
struct Timed<A>(A, Arc<ReplicaMetrics>, World);

impl<A: Ask> Ask for Timed<A> {
    async fn ask(&mut self) -> Result<Confirmed, ConfirmError> {
        let began = self.2.now();
        let answer = self.0.ask().await;
        if answer.is_ok() {
            self.1.rounds.observe(self.2.now().saturating_sub(began));
        }
        answer
    }
}

fn unknown(why: impl std::fmt::Display) -> ProposeError {
    ProposeError::Unknown { why: why.to_string() }
}

impl<M: Machine> Drop for Inner<M> {
    /// Calls of other nodes that are under way may hold parts of openraft: they must not keep a dropped replica alive.
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if tokio::runtime::Handle::try_current().is_ok() {
            let raft = self.raft.clone();
            let end = async move { drop(raft.shutdown().await) };
            self.world.spawn("replica end", end).detach();
        }
    }
}
