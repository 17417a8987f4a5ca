//! The way into the log. What waits is gathered into one Raft entry, several entries are in flight, and each submitter
//! gets the outcome of its own command.
//!
//! It decides nothing about a command and repeats none. Keep-alives do not pass here.
//!
//! Keeps true: a [`SubmitError`] other than [`SubmitError::Unknown`] means that the command was not and will not be
//! applied. A conditional command ([`Proposer::submit_as`]) is applied only as an entry of the term in which the
//! condition was seen; it is never forwarded and never waits for room behind the others.

use std::sync::Arc;

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

/// Commands in one entry. Applying that many takes about a millisecond, well below a heartbeat.
const BATCH_COMMANDS: usize = 1_024;

/// Bytes of commands in one entry, once there are two: above the largest request, below what a follower accepts at once.
const BATCH_BYTES: usize = 2 << 20;

/// Entries in flight. One would leave the disk idle while the network works; many would make each entry small.
const IN_FLIGHT: usize = 4;

/// Room beside those for conditional entries, so that an expiry never waits behind writes.
const IN_FLIGHT_CONDITIONAL: usize = 4;

/// Commands that wait or are in flight; the next is refused as overloaded. About a second's work at full speed.
const WAITING_COMMANDS: usize = 16_384;

/// Bytes of commands that wait or are in flight; the next is refused as overloaded. Bounds the memory.
const WAITING_BYTES: usize = 64 << 20;

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
    conditional: mpsc::Sender<(Leadership, Waiting)>,
    bytes: Arc<Semaphore>,
    status: watch::Receiver<ReplicaStatus>,
    founded: watch::Receiver<Option<ClusterId>>,
    disk: watch::Receiver<EngineHealth>,
}

type Answer = Result<Outcome, SubmitError>;

struct Waiting {
    command: Command,
    weight: usize,
    answer: oneshot::Sender<Answer>,
    /// Its share of [`WAITING_BYTES`], given back with the answer.
    room: Option<OwnedSemaphorePermit>,
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
        let (conditional, conditional_queue) = mpsc::channel(WAITING_CONDITIONAL);
        let status = replica.status();
        let pump = Pump {
            replica,
            plain: plain_queue,
            conditional: conditional_queue,
            next_plain: None,
            next_conditional: None,
        };
        let task = world.spawn("proposer", pump.run());
        let bytes = Arc::new(Semaphore::new(WAITING_BYTES));
        (Proposer { node_id, plain, conditional, bytes, status, founded: machine.founded(), disk }, task)
    }

    /// Has a command applied. Cancelling it does not take the command back.
    pub async fn submit(&self, command: Command) -> Answer {
        self.admit(&command.op)?;
        let weight = weight(&command);
        let permits = u32::try_from(weight).map_err(|_| SubmitError::Overloaded)?;
        let room = Arc::clone(&self.bytes).try_acquire_many_owned(permits).map_err(|_| SubmitError::Overloaded)?;
        let (answer, outcome) = oneshot::channel();
        self.plain
            .try_send(Waiting { command, weight, answer, room: Some(room) })
            .map_err(|_| SubmitError::Overloaded)?;
        answered(outcome).await
    }

    /// Has a command applied only if this node is still the store leader that `leadership` names: for expiry, release
    /// and the founding. Cancelling it does not take the command back.
    pub async fn submit_as(&self, leadership: Leadership, command: Command) -> Answer {
        let weight = weight(&command);
        let (answer, outcome) = oneshot::channel();
        self.conditional
            .try_send((leadership, Waiting { command, weight, answer, room: None }))
            .map_err(|_| SubmitError::Overloaded)?;
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
        Ok(())
    }
}

/// A node that leads but is not ready yet is no one to ask.
pub(crate) fn not_leader(node_id: u64, store_leader: Option<Peer>) -> SubmitError {
    match store_leader {
        Some(peer) if peer.node_id != node_id => SubmitError::NotStoreLeader { hint: Some(peer) },
        Some(_) | None => SubmitError::NoStoreLeader,
    }
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
            Op::Compact { .. } => 0,
        }
}

/// The task that gathers and proposes. It waits for nothing but its queues: entries are in flight side by side.
struct Pump {
    replica: Replica<CoordMachine>,
    plain: mpsc::Receiver<Waiting>,
    conditional: mpsc::Receiver<(Leadership, Waiting)>,
    /// What was taken off a queue and did not fit the entry.
    next_plain: Option<Waiting>,
    next_conditional: Option<(Leadership, Waiting)>,
}

impl Pump {
    async fn run(mut self) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            let room = in_flight.len() < IN_FLIGHT;
            let more_room = in_flight.len() < IN_FLIGHT + IN_FLIGHT_CONDITIONAL;
            tokio::select! {
                biased;
                Some(()) = in_flight.next(), if !in_flight.is_empty() => {}
                Some((leadership, first)) = next(&mut self.next_conditional, &mut self.conditional), if more_room => {
                    let batch = self.gather_conditional(leadership, first);
                    in_flight.push(propose(self.replica.clone(), Some(leadership), batch));
                }
                first = next(&mut self.next_plain, &mut self.plain), if room => {
                    let Some(first) = first else { return };
                    let batch = self.gather(first);
                    in_flight.push(propose(self.replica.clone(), None, batch));
                }
            }
        }
    }

    fn gather(&mut self, first: Waiting) -> Vec<Waiting> {
        let mut batch = Batch::new(first);
        while let Ok(waiting) = self.plain.try_recv() {
            if let Err(refused) = batch.add(waiting) {
                self.next_plain = Some(refused);
                break;
            }
        }
        batch.commands
    }

    fn gather_conditional(&mut self, leadership: Leadership, first: Waiting) -> Vec<Waiting> {
        let mut batch = Batch::new(first);
        while let Ok((condition, waiting)) = self.conditional.try_recv() {
            if condition != leadership {
                self.next_conditional = Some((condition, waiting));
                break;
            }
            if let Err(refused) = batch.add(waiting) {
                self.next_conditional = Some((condition, refused));
                break;
            }
        }
        batch.commands
    }
}

/// What was left over, else what comes next. Cancelling it loses nothing.
async fn next<T>(left_over: &mut Option<T>, queue: &mut mpsc::Receiver<T>) -> Option<T> {
    match left_over.take() {
        Some(waiting) => Some(waiting),
        None => queue.recv().await,
    }
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

    /// Gives back what does not fit.
    fn add(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        if self.commands.len() >= BATCH_COMMANDS || self.bytes + waiting.weight > BATCH_BYTES {
            return Err(waiting);
        }
        self.bytes += waiting.weight;
        self.commands.push(waiting);
        Ok(())
    }
}

/// One entry: proposes it and answers each submitter.
async fn propose(replica: Replica<CoordMachine>, leadership: Option<Leadership>, batch: Vec<Waiting>) {
    let (commands, answers): (Vec<Command>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.command, (waiting.answer, waiting.room))).unzip();
    let entry = log::encode_batch(&commands);
    drop(commands);
    let proposed = match leadership {
        Some(leadership) => replica.propose_as(leadership, entry).await,
        None => replica.propose(entry).await,
    };
    match proposed {
        Ok(outcomes) => {
            assert_eq!(outcomes.len(), answers.len(), "each command of an entry has one outcome");
            for ((answer, _), outcome) in answers.into_iter().zip(outcomes) {
                let _ = answer.send(Ok(outcome)); // whoever asked may have gone
            }
        }
        Err(error) => {
            let error = SubmitError::from(error);
            for (answer, _) in answers {
                let _ = answer.send(Err(error.clone()));
            }
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
        Waiting { weight: weight(&command), command, answer: oneshot::channel().0, room: None }
    }

    #[test]
    fn an_entry_is_bounded_by_commands_and_by_bytes() {
        let mut small = Batch::new(waiting(1));
        while small.add(waiting(1)).is_ok() {}
        assert_eq!(small.commands.len(), BATCH_COMMANDS);

        let mut large = Batch::new(waiting(1 << 20));
        assert!(large.add(waiting(900 << 10)).is_ok());
        assert!(large.add(waiting(900 << 10)).is_err());
        assert!(large.bytes <= BATCH_BYTES && large.commands.len() == 2);
    }
}
