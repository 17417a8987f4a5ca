//! The way into the log. What waits is gathered into one Raft entry, several entries are in flight, and each submitter
//! gets the outcome of its own command.
//!
//! It decides nothing about a command and repeats none. Keep-alives do not pass here.
//!
//! Keeps true: a [`SubmitError`] other than [`SubmitError::Unknown`] means that the command was not and will not be
//! applied. A conditional command ([`Proposer::submit_as`]) is applied only as an entry of the term in which the
//! condition was seen; it is never forwarded and never waits for room behind the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use palisade_coord_core::keys::op::Operand;
use palisade_coord_core::{Command, KeyOp, Keys, Op, Outcome, Value};
use palisade_fence::{ClusterId, Fence};
use palisade_replica::{Leadership, Peer, ProposeError, Replica, ReplicaStatus};
use palisade_storage::{EngineHealth, FullState};
use palisade_wire::log;
use palisade_world::{Task, World};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::machine::CoordMachine;
use crate::metrics::NodeMetrics;

/// Commands in one entry. Applying that many takes about a millisecond, well below a heartbeat.
const BATCH_COMMANDS: usize = 1_024;

/// Bytes of commands in one entry, once there are two: above the largest request, below what a follower accepts at once.
const BATCH_BYTES: usize = 2 << 20;

/// Entries in flight. One would leave the disk idle while the network works; many would make each entry small.
const IN_FLIGHT: usize = 4;

/// Room beside those for conditional entries, so that an expiry never waits behind writes.
const IN_FLIGHT_CONDITIONAL: usize = 4;

/// Entries in flight, both kinds.
pub(crate) const MAX_IN_FLIGHT: usize = IN_FLIGHT + IN_FLIGHT_CONDITIONAL;

/// Commands that wait or are in flight; the next is refused as overloaded. About a second's work at full speed.
const WAITING_COMMANDS: usize = 16_384;

/// Bytes of commands that wait or are in flight; the next is refused as overloaded. Bounds the memory.
const WAITING_BYTES: usize = 64 << 20;

/// Commands of data streams that wait, likewise; in a queue of their own, so that no stream delays whoever sends one command.
const WAITING_BULK: usize = 65_536;

/// Bytes of commands of data streams that wait or are in flight.
const WAITING_BULK_BYTES: usize = 64 << 20;

/// What single commands may take of an entry while commands of data streams wait: three quarters, so that neither starves.
const SINGLE_COMMANDS: usize = BATCH_COMMANDS / 4 * 3;

/// Expiries and releases that wait. Each live session has one at most; those that find no room are tried again at the
/// session driver's next tick.
const WAITING_CONDITIONAL: usize = 65_536;

/// Why a command has no outcome.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubmitError {
    /// Not applied: ask `hint`.
    #[error("this node is not the store leader")]
    NotStoreLeader {
        /// Who leads the store, if that is known.
        hint: Option<Peer>,
    },
    /// Not applied: the nodes are electing, or have no majority, or the cluster is being founded.
    #[error("there is no store leader")]
    NoStoreLeader,
    /// Not applied: too much waits. Come back later.
    #[error("too many commands wait")]
    Overloaded,
    /// Not applied: this node's disk is full.
    #[error("this node's disk is full")]
    DiskFull,
    /// Not applied: the cluster has not reached the level from which on such a command may be proposed.
    #[error("this needs level {needs}, and the cluster is at level {at}")]
    Level {
        /// What the command needs.
        needs: u32,
        /// What the cluster has.
        at: u32,
    },
    /// It may have been applied, or may yet be.
    #[error("the outcome is unknown: {why}")]
    Unknown {
        /// What broke.
        why: String,
    },
}

/// The way into the log. Cheap to clone.
#[derive(Clone)]
pub struct Proposer {
    node_id: u64,
    plain: mpsc::Sender<Waiting>,
    bulk: mpsc::Sender<Waiting>,
    conditional: mpsc::Sender<(Leadership, Waiting)>,
    bytes: Arc<Semaphore>,
    bulk_bytes: Arc<Semaphore>,
    status: watch::Receiver<ReplicaStatus>,
    founded: watch::Receiver<Option<ClusterId>>,
    /// Of the cluster.
    level: Arc<AtomicU32>,
    disk: watch::Receiver<EngineHealth>,
    /// For how long commands take, and for nothing else.
    world: World,
}

/// How full a queue is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct QueueFigure {
    pub(crate) name: &'static str,
    pub(crate) length: usize,
    pub(crate) limit: usize,
}

pub(crate) type Answer = Result<Outcome, SubmitError>;

/// Where a data stream hears of its commands, each under the number that it was given with: those of one entry come at once.
pub(crate) type Outcomes = mpsc::Sender<Vec<(u64, Answer)>>;

struct Waiting {
    command: Command,
    weight: usize,
    /// When it came.
    since: Duration,
    asker: Asker,
    /// Its share of [`WAITING_BYTES`] or [`WAITING_BULK_BYTES`], given back with the answer.
    room: Option<OwnedSemaphorePermit>,
}

/// Who is told what came of a command.
enum Asker {
    Caller(oneshot::Sender<Answer>),
    Stream { call: u64, outcomes: Outcomes },
}

impl Proposer {
    /// Starts the task that gathers; it ends with its handle, and what waits then is answered as unknown.
    pub fn start(
        node_id: u64,
        replica: Replica<CoordMachine>,
        machine: &CoordMachine,
        disk: watch::Receiver<EngineHealth>,
        world: &World,
    ) -> (Proposer, Task<()>) {
        let (plain, plain_queue) = mpsc::channel(WAITING_COMMANDS);
        let (bulk, bulk_queue) = mpsc::channel(WAITING_BULK);
        let (conditional, conditional_queue) = mpsc::channel(WAITING_CONDITIONAL);
        let status = replica.status();
        let pump = Pump {
            replica,
            work: Work { metrics: Arc::clone(machine.metrics()), world: world.clone() },
            plain: Queue { next: None, rest: plain_queue },
            bulk: Queue { next: None, rest: bulk_queue },
            conditional: Queue { next: None, rest: conditional_queue },
        };
        let task = world.spawn("proposer", pump.run());
        let (bytes, bulk_bytes) =
            (Arc::new(Semaphore::new(WAITING_BYTES)), Arc::new(Semaphore::new(WAITING_BULK_BYTES)));
        let (founded, level) = (machine.founded(), machine.level_now());
        let world = world.clone();
        (Proposer { node_id, plain, bulk, conditional, bytes, bulk_bytes, status, founded, level, disk, world }, task)
    }

    /// How full its queues are.
    pub(crate) fn queues(&self) -> [QueueFigure; 5] {
        let queue = |name, limit: usize, left: usize| QueueFigure { name, length: limit.saturating_sub(left), limit };
        [
            queue("commands", WAITING_COMMANDS, self.plain.capacity()),
            queue("bulk_commands", WAITING_BULK, self.bulk.capacity()),
            queue("conditional_commands", WAITING_CONDITIONAL, self.conditional.capacity()),
            queue("command_bytes", WAITING_BYTES, self.bytes.available_permits()),
            queue("bulk_command_bytes", WAITING_BULK_BYTES, self.bulk_bytes.available_permits()),
        ]
    }

    /// Has a command applied. Cancelling it does not take the command back.
    pub async fn submit(&self, command: Command) -> Answer {
        self.admit(&command.op)?;
        let weight = weight(&command);
        let room = Some(room(&self.bytes, weight)?);
        let (caller, outcome) = oneshot::channel();
        let waiting = Waiting { command, weight, since: self.world.now(), asker: Asker::Caller(caller), room };
        self.plain.try_send(waiting).map_err(|_| SubmitError::Overloaded)?;
        answered(outcome).await
    }

    /// Has a command of a data stream applied. What comes of it goes to `outcomes`, unless the node stops; an error comes at
    /// once. It never waits.
    pub(crate) fn submit_bulk(&self, command: Command, call: u64, outcomes: &Outcomes) -> Result<(), SubmitError> {
        self.admit(&command.op)?;
        let weight = weight(&command);
        let room = Some(room(&self.bulk_bytes, weight)?);
        let asker = Asker::Stream { call, outcomes: outcomes.clone() };
        let since = self.world.now();
        self.bulk.try_send(Waiting { command, weight, since, asker, room }).map_err(|_| SubmitError::Overloaded)
    }

    /// Has a command applied only if this node is still the store leader that `leadership` names: for expiry, release
    /// and the founding. Cancelling it does not take the command back.
    pub async fn submit_as(&self, leadership: Leadership, command: Command) -> Answer {
        let weight = weight(&command);
        let (caller, outcome) = oneshot::channel();
        let since = self.world.now();
        let waiting = Waiting { command, weight, since, asker: Asker::Caller(caller), room: None };
        self.conditional.try_send((leadership, waiting)).map_err(|_| SubmitError::Overloaded)?;
        answered(outcome).await
    }

    /// What can be said before anything is queued.
    fn admit(&self, op: &Op) -> Result<(), SubmitError> {
        match &*self.disk.borrow() {
            // What keeps sessions alive or ends them is small, and the reserve is there for it: a full disk is the node's
            // fault, and must release nobody.
            EngineHealth::DiskFull { state: FullState::ReserveReached, .. }
                if matches!(
                    op,
                    Op::Attach { .. }
                        | Op::EndSession { .. }
                        | Op::CloseSession { .. }
                        | Op::Resign { .. }
                        | Op::Withdraw { .. }
                        | Op::Remove { .. }
                        | Op::Transfer { .. }
                ) => {}
            EngineHealth::DiskFull { .. } => return Err(SubmitError::DiskFull),
            EngineHealth::Ok | EngineHealth::Failed { .. } => {}
        }
        {
            let status = self.status.borrow();
            if status.leadership.is_none() {
                return Err(not_leader(self.node_id, status.store_leader.clone()));
            }
        }
        // The founding is the first command of a cluster: nothing may come before it.
        if self.founded.borrow().is_none() {
            return Err(SubmitError::NoStoreLeader);
        }
        is_reached(op.level(), self.level.load(Ordering::Acquire))
    }
}

/// Whether all nodes know a command that needs this level: one that did not would stop at it.
fn is_reached(needs: u32, at: u32) -> Result<(), SubmitError> {
    if needs <= at { Ok(()) } else { Err(SubmitError::Level { needs, at }) }
}

/// A node that leads but is not ready yet is no one to ask.
pub(crate) fn not_leader(node_id: u64, store_leader: Option<Peer>) -> SubmitError {
    match store_leader {
        Some(peer) if peer.node_id != node_id => SubmitError::NotStoreLeader { hint: Some(peer) },
        Some(_) | None => SubmitError::NoStoreLeader,
    }
}

fn room(bytes: &Arc<Semaphore>, weight: usize) -> Result<OwnedSemaphorePermit, SubmitError> {
    let permits = u32::try_from(weight).map_err(|_| SubmitError::Overloaded)?;
    Arc::clone(bytes).try_acquire_many_owned(permits).map_err(|_| SubmitError::Overloaded)
}

async fn answered(outcome: oneshot::Receiver<Answer>) -> Answer {
    outcome.await.unwrap_or_else(|_| Err(SubmitError::Unknown { why: "the node stops".to_owned() }))
}

fn weight_of_keys(op: &KeyOp) -> usize {
    const FRAME: usize = 32; // lengths, numbers
    let fence = |fence: &Option<Fence>| fence.as_ref().map_or(0, |fence| fence.election.len());
    let keys = |keys: &Keys| match keys {
        Keys::One(key) | Keys::From(key) => key.len(),
        Keys::Span { from, to } => from.len() + to.len(),
    };
    let value = |operand: &Operand| if let Operand::Value(value) = operand { value.len() } else { 0 };
    FRAME
        + match op {
            KeyOp::Put(put) => put.key.len() + put.value.as_ref().map_or(0, Vec::len) + fence(&put.fence),
            KeyOp::Delete(delete) => keys(&delete.keys) + fence(&delete.fence),
            KeyOp::Read(read) => keys(&read.keys),
            KeyOp::Txn(txn) => {
                let compare = txn.compare.iter().map(|it| FRAME + keys(&it.keys) + value(&it.operand)).sum::<usize>();
                let ops = txn.success.iter().chain(&txn.failure).map(weight_of_keys).sum::<usize>();
                fence(&txn.fence) + compare + ops
            }
        }
}

/// Bytes that a command takes in the log, near enough for bounding; at least 1.
fn weight(command: &Command) -> usize {
    const FRAME: usize = 64; // ids, lengths, stamps
    let value = |value: &Value| {
        // A map entry has a frame of its own: without it, many empty components would outgrow what an entry may hold.
        let components = value.components.iter().map(|(name, address)| 16 + name.len() + address.len()).sum::<usize>();
        value.address.len() + value.data.len() + components
    };
    FRAME
        + match &command.op {
            Op::Found { .. }
            | Op::OpenSession { .. }
            | Op::Attach { .. }
            | Op::EndSession { .. }
            | Op::CloseSession { .. }
            | Op::Withdraw { .. } => 0,
            Op::Campaign { election, candidate, value: v, .. } => election.len() + candidate.len() + value(v),
            Op::Proclaim { election, value: v, .. } => election.len() + value(v),
            Op::Resign { election, .. } => election.len(),
            Op::Remove { election, candidate, .. } => election.len() + candidate.len(),
            Op::Transfer { election, to, .. } => election.len() + to.len(),
            Op::Keys(op) => weight_of_keys(op),
            Op::Compact { .. } | Op::RaiseLevel { .. } => 0,
        }
}

/// A queue, with what was taken off it and did not fit the entry.
struct Queue<T> {
    next: Option<T>,
    rest: mpsc::Receiver<T>,
}

impl<T> Queue<T> {
    /// Waits for what comes next. Cancelling it loses nothing.
    async fn next(&mut self) -> Option<T> {
        match self.next.take() {
            Some(waiting) => Some(waiting),
            None => self.rest.recv().await,
        }
    }

    /// What is there already.
    fn ready(&mut self) -> Option<T> {
        self.next.take().or_else(|| self.rest.try_recv().ok())
    }
}

/// Where the work on an entry is measured.
#[derive(Clone)]
struct Work {
    metrics: Arc<NodeMetrics>,
    world: World,
}

/// The task that gathers and proposes. It waits for nothing but its queues: entries are in flight side by side.
struct Pump {
    replica: Replica<CoordMachine>,
    work: Work,
    plain: Queue<Waiting>,
    bulk: Queue<Waiting>,
    conditional: Queue<(Leadership, Waiting)>,
}

impl Pump {
    async fn run(mut self) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            let room = in_flight.len() < IN_FLIGHT;
            let more_room = in_flight.len() < MAX_IN_FLIGHT;
            self.work.metrics.entries_in_flight.set(in_flight.len());
            tokio::select! {
                biased;
                Some(()) = in_flight.next(), if !in_flight.is_empty() => {}
                Some((leadership, first)) = self.conditional.next(), if more_room => {
                    let batch = self.gather_conditional(leadership, first);
                    in_flight.push(propose(self.replica.clone(), self.work.clone(), Some(leadership), batch));
                }
                first = self.plain.next(), if room => {
                    let Some(first) = first else { return };
                    let batch = gather(first, &mut self.plain, &mut self.bulk);
                    in_flight.push(propose(self.replica.clone(), self.work.clone(), None, batch));
                }
                Some(first) = self.bulk.next(), if room => {
                    let batch = gather(first, &mut self.plain, &mut self.bulk);
                    in_flight.push(propose(self.replica.clone(), self.work.clone(), None, batch));
                }
            }
        }
    }

    fn gather_conditional(&mut self, leadership: Leadership, first: Waiting) -> Vec<Waiting> {
        let mut batch = Batch::new(first);
        while let Some((condition, waiting)) = self.conditional.ready() {
            if condition != leadership {
                self.conditional.next = Some((condition, waiting));
                break;
            }
            if let Err(refused) = batch.add(waiting, BATCH_COMMANDS) {
                self.conditional.next = Some((condition, refused));
                break;
            }
        }
        batch.commands
    }
}

/// An entry of what waits: single commands first, up to their share, then those of data streams, then whatever fits.
fn gather(first: Waiting, plain: &mut Queue<Waiting>, bulk: &mut Queue<Waiting>) -> Vec<Waiting> {
    let mut batch = Batch::new(first);
    batch.fill(plain, SINGLE_COMMANDS);
    batch.fill(bulk, BATCH_COMMANDS);
    batch.fill(plain, BATCH_COMMANDS);
    batch.commands
}

/// Commands of one entry. Never empty; over [`BATCH_BYTES`] only if a single command is.
struct Batch {
    commands: Vec<Waiting>,
    bytes: usize,
}

impl Batch {
    fn new(first: Waiting) -> Batch {
        Batch { bytes: first.weight, commands: vec![first] }
    }

    /// Takes what waits while there are fewer than `most` commands and it fits.
    fn fill(&mut self, queue: &mut Queue<Waiting>, most: usize) {
        while self.commands.len() < most
            && let Some(waiting) = queue.ready()
        {
            if let Err(refused) = self.add(waiting, most) {
                queue.next = Some(refused);
                return;
            }
        }
    }

    /// Gives back what does not fit.
    fn add(&mut self, waiting: Waiting, most: usize) -> Result<(), Waiting> {
        if self.commands.len() >= most || self.bytes + waiting.weight > BATCH_BYTES {
            return Err(waiting);
        }
        self.bytes += waiting.weight;
        self.commands.push(waiting);
        Ok(())
    }
}

/// One entry: proposes it and answers each submitter.
async fn propose(replica: Replica<CoordMachine>, work: Work, leadership: Option<Leadership>, batch: Vec<Waiting>) {
    let (commands, askers): (Vec<Command>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.command, (waiting.asker, waiting.since, waiting.room))).unzip();
    let entry = log::encode_batch(&commands);
    drop(commands);
    let proposed = match leadership {
        Some(leadership) => replica.propose_as(leadership, entry).await,
        None => replica.propose(entry).await,
    };
    let mut told = Told::default();
    match proposed {
        Ok(outcomes) => {
            assert_eq!(outcomes.len(), askers.len(), "each command of an entry has one outcome");
            let now = work.world.now();
            for ((asker, since, _), outcome) in askers.into_iter().zip(outcomes) {
                work.metrics.proposal.observe(now.saturating_sub(since));
                told.tell(asker, Ok(outcome));
            }
        }
        Err(error) => {
            let error = SubmitError::from(error);
            for (asker, ..) in askers {
                told.tell(asker, Err(error.clone()));
            }
        }
    }
    told.finish();
}

/// What streams are to be told: gathered, so that each is woken once for an entry.
#[derive(Default)]
struct Told(Vec<(Outcomes, Vec<(u64, Answer)>)>);

impl Told {
    fn tell(&mut self, asker: Asker, answer: Answer) {
        match asker {
            Asker::Caller(caller) => {
                let _ = caller.send(answer); // whoever asked may have gone
            }
            Asker::Stream { call, outcomes } => {
                // Commands of one stream lie together as they came.
                match self.0.iter_mut().rev().find(|(stream, _)| stream.same_channel(&outcomes)) {
                    Some((_, answers)) => answers.push((call, answer)),
                    None => self.0.push((outcomes, vec![(call, answer)])),
                }
            }
        }
    }

    fn finish(self) {
        for (outcomes, answers) in self.0 {
            let _ = outcomes.try_send(answers); // it may have gone; a live one has room for all that it has in flight
        }
    }
}

impl From<ProposeError> for SubmitError {
    fn from(error: ProposeError) -> SubmitError {
        match error {
            ProposeError::NotLeader { hint: Some(peer) } => SubmitError::NotStoreLeader { hint: Some(peer) },
            ProposeError::NotLeader { hint: None } | ProposeError::Stopped => SubmitError::NoStoreLeader,
            ProposeError::Overloaded => SubmitError::Overloaded,
            ProposeError::Unknown { why } => SubmitError::Unknown { why },
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::keys::op::Put;

    use super::*;

    fn waiting(bytes: usize) -> Waiting {
        let op = Op::Keys(KeyOp::Put(Put::new([0], vec![0; bytes])));
        let command = Command::new(0, op);
        let asker = Asker::Caller(oneshot::channel().0);
        Waiting { weight: weight(&command), command, since: Duration::ZERO, asker, room: None }
    }

    #[test]
    fn a_command_waits_for_the_level_from_which_on_all_nodes_know_it() {
        assert_eq!(is_reached(1, 1), Ok(()));
        assert_eq!(is_reached(2, 3), Ok(()));
        assert_eq!(is_reached(3, 2), Err(SubmitError::Level { needs: 3, at: 2 }));
    }

    /// A queue of small commands; their keys say which queue they are from.
    fn queue(from: u8, count: usize) -> Queue<Waiting> {
        let (sender, rest) = mpsc::channel(WAITING_BULK);
        for _ in 0..count {
            let command = Command::new(0, Op::Keys(KeyOp::Put(Put::new([from], []))));
            let waiting = Waiting { command, ..waiting(0) };
            assert!(sender.try_send(waiting).is_ok());
        }
        Queue { next: None, rest }
    }

    fn from(from: u8, batch: &[Waiting]) -> usize {
        let is = |it: &&Waiting| matches!(&it.command.op, Op::Keys(KeyOp::Put(put)) if put.key == [from]);
        batch.iter().filter(is).count()
    }

    #[test]
    fn an_entry_is_bounded_by_commands_and_by_bytes() {
        let mut small = Batch::new(waiting(1));
        while small.add(waiting(1), BATCH_COMMANDS).is_ok() {}
        assert_eq!(small.commands.len(), BATCH_COMMANDS);

        let mut large = Batch::new(waiting(1 << 20));
        assert!(large.add(waiting(900 << 10), BATCH_COMMANDS).is_ok());
        assert!(large.add(waiting(900 << 10), BATCH_COMMANDS).is_err());
        assert!(large.bytes <= BATCH_BYTES && large.commands.len() == 2);
    }

    #[test]
    fn streams_and_single_commands_share_an_entry_and_neither_starves() {
        let (plain, bulk) = (1, 2);
        // A flood of streams: whoever sends one command is in the next entry.
        let (mut few, mut many) = (queue(plain, 3), queue(bulk, 5_000));
        let first = many.ready().expect("there are many");
        let entry = gather(first, &mut few, &mut many);
        assert_eq!((from(plain, &entry), entry.len()), (3, BATCH_COMMANDS));
        // A flood of single commands: streams have their quarter.
        let (mut many, mut some) = (queue(plain, 5_000), queue(bulk, 5_000));
        let first = many.ready().expect("there are many");
        let entry = gather(first, &mut many, &mut some);
        assert_eq!((from(plain, &entry), from(bulk, &entry)), (SINGLE_COMMANDS, BATCH_COMMANDS / 4));
        // Nobody else waits: the whole entry.
        let (mut many, mut none) = (queue(plain, 5_000), queue(bulk, 0));
        let first = many.ready().expect("there are many");
        assert_eq!(gather(first, &mut many, &mut none).len(), BATCH_COMMANDS);
    }

    #[test]
    fn a_stream_is_told_once_of_an_entry() {
        let (one, mut first) = mpsc::channel(8);
        let (two, mut second) = mpsc::channel(8);
        let mut told = Told::default();
        for (call, outcomes) in [(1, &one), (2, &two), (3, &one)] {
            told.tell(Asker::Stream { call, outcomes: outcomes.clone() }, Err(SubmitError::DiskFull));
        }
        told.finish();
        let calls = |told: Vec<(u64, Answer)>| told.into_iter().map(|(call, _)| call).collect::<Vec<_>>();
        assert_eq!(first.try_recv().map(calls), Ok(vec![1, 3]));
        assert_eq!(second.try_recv().map(calls), Ok(vec![2]));
        assert!(first.try_recv().is_err());
    }
}
