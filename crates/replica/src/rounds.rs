//! Quorum rounds: one task asks "do I still lead?" for everybody who waits. A round answers those, and only those, who
//! were waiting when it began; whoever comes later waits for the next. So an answer always rests on heartbeats that were
//! sent after the question, never on a lease.

use std::fmt::Debug;

use openraft::errors::{LinearizableReadError, RaftError};
use openraft::storage::RaftStateMachine;
use openraft::{Raft, ReadPolicy};
use tokio::sync::{mpsc, oneshot};

use crate::seeds::Seeds;
use crate::types::{LogId, Types};
use crate::{ConfirmError, Leadership, Peer};

/// Questions that wait for the next round; beyond it the askers wait for room. One for each live request at most, and the
/// server bounds those.
const WAITING: usize = 16_384;

/// What a round found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Confirmed {
    /// Who leads: this node.
    pub(crate) leadership: Leadership,
    /// Everything that was acknowledged before the round began lies at or below this entry, which is at or above this
    /// leader's own first.
    pub(crate) read: LogId,
}

type Asker = oneshot::Sender<Result<Confirmed, ConfirmError>>;

/// Where questions are put.
#[derive(Clone)]
pub(crate) struct Rounds(mpsc::Sender<Asker>);

/// The other end: what the task takes.
pub(crate) struct Questions(mpsc::Receiver<Asker>);

/// Makes both ends.
pub(crate) fn rounds() -> (Rounds, Questions) {
    let (ask, questions) = mpsc::channel(WAITING);
    (Rounds(ask), Questions(questions))
}

impl Rounds {
    /// Waits for a round that begins after this call.
    pub(crate) async fn next(&self) -> Result<Confirmed, ConfirmError> {
        let (asker, answer) = oneshot::channel();
        self.0.send(asker).await.map_err(|_| ConfirmError::Stopped)?;
        answer.await.unwrap_or(Err(ConfirmError::Stopped))
    }
}

/// Runs rounds while there are questions and replication goes on.
pub(crate) async fn run<R, SM>(mut questions: Questions, raft: Raft<Types<R>, SM>, seeds: Seeds, node_id: u64)
where
    R: Send + Sync + Debug + 'static,
    SM: RaftStateMachine<Types<R>>,
{
    let mut askers = Vec::new();
    while questions.0.recv_many(&mut askers, WAITING).await > 0 {
        let answer = match seeds.scope(raft.get_read_linearizer(ReadPolicy::ReadIndex)).await {
            Ok(linearizer) => {
                let read = *linearizer.read_log_id().log_id();
                Ok(Confirmed { leadership: Leadership::from(read.leader_id), read })
            }
            Err(error) => Err(refusal(error, node_id)),
        };
        for asker in askers.drain(..) {
            let _ = asker.send(answer.clone()); // whoever asked may have gone
        }
    }
}

fn refusal<R: Send + Sync + Debug + 'static>(
    error: RaftError<Types<R>, LinearizableReadError<Types<R>>>,
    node_id: u64,
) -> ConfirmError {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
            ConfirmError::NotLeader { hint: hint(forward.leader_id, forward.leader_node, node_id) }
        }
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => ConfirmError::NoQuorum,
        RaftError::Fatal(_) => ConfirmError::Stopped,
    }
}

/// Whom to ask instead; a node does not name itself.
pub(crate) fn hint(leader_id: Option<u64>, leader_node: Option<Peer>, own_id: u64) -> Option<Peer> {
    let node_id = leader_id.filter(|id| *id != own_id)?;
    leader_node.map(|peer| Peer { node_id, ..peer })
}
