//! Quorum rounds: one task asks "do I still lead?" for everybody who waits. A round answers those, and only those, who
//! were waiting when it began; whoever comes later waits for the next. So an answer always rests on what voters said after
//! the question, never on a lease. What a round is: [`crate::quorum`].

use std::fmt::Debug;

use openraft::errors::{LinearizableReadError, RaftError};
use openraft::storage::RaftStateMachine;
use openraft::{Raft, ReadPolicy};
use tokio::sync::{mpsc, oneshot};

use crate::seeds::Seeds;
use crate::types::{LogId, Node, Types};
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

/// What runs a round.
pub(crate) trait Ask: Send {
    /// Runs one. Ends within the election timeout, or twice that where a voter of an earlier version has to be asked otherwise.
    fn ask(&mut self) -> impl Future<Output = Result<Confirmed, ConfirmError>> + Send;
}

/// Runs rounds while anybody may ask.
pub(crate) async fn run(mut questions: Questions, mut by: impl Ask) {
    let mut askers = Vec::new();
    while questions.0.recv_many(&mut askers, WAITING).await > 0 {
        let answer = by.ask().await;
        for asker in askers.drain(..) {
            let _ = asker.send(answer.clone()); // whoever asked may have gone
        }
    }
}

/// A round by heartbeats, which a quorum answers within the election timeout: for a store leader that has not committed an
/// entry of its own yet, and for voters of an earlier version.
pub(crate) async fn ask_openraft<R, SM>(
    raft: &Raft<Types<R>, SM>,
    seeds: &Seeds,
    node_id: u64,
) -> Result<Confirmed, ConfirmError>
where
    R: Send + Sync + Debug + 'static,
    SM: RaftStateMachine<Types<R>>,
{
    match seeds.scope(raft.get_read_linearizer(ReadPolicy::ReadIndex)).await {
        Ok(linearizer) => {
            let read = *linearizer.read_log_id().log_id();
            Ok(Confirmed { leadership: Leadership::from(read.leader_id), read })
        }
        Err(error) => Err(refusal(error, node_id)),
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
pub(crate) fn hint(leader_id: Option<u64>, leader_node: Option<Node>, own_id: u64) -> Option<Peer> {
    let node_id = leader_id.filter(|id| *id != own_id)?;
    leader_node.map(|node| node.peer(node_id))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;
    use crate::types::LeaderId;

    fn confirmed(round: u64) -> Confirmed {
        let leader_id = LeaderId { term: 1, node_id: 1 };
        Confirmed { leadership: Leadership::from(leader_id), read: LogId { leader_id, index: round } }
    }

    /// Ends a round when it is told to.
    #[derive(Clone, Default)]
    struct Told {
        begun: Arc<AtomicU64>,
        end: Arc<Notify>,
    }

    impl Ask for Told {
        async fn ask(&mut self) -> Result<Confirmed, ConfirmError> {
            let round = 1 + self.begun.fetch_add(1, Ordering::SeqCst);
            self.end.notified().await;
            Ok(confirmed(round))
        }
    }

    #[tokio::test]
    async fn a_round_answers_only_those_who_waited_when_it_began() {
        let (rounds, questions) = rounds();
        let told = Told::default();
        let serve = run(questions, told.clone());
        let test = async {
            let early = join_all((0..100).map(|_| rounds.next()));
            tokio::pin!(early);
            assert!(early.as_mut().now_or_never().is_none());
            while told.begun.load(Ordering::SeqCst) < 1 {
                tokio::task::yield_now().await;
            }
            // The first round is under way: these must not be answered by it.
            let late = join_all((0..100).map(|_| rounds.next()));
            tokio::pin!(late);
            assert!(late.as_mut().now_or_never().is_none());
            told.end.notify_one();
            assert!(early.await.into_iter().all(|answer| answer == Ok(confirmed(1))), "one round for all that waited");
            assert!(late.as_mut().now_or_never().is_none());
            told.end.notify_one();
            assert!(late.await.into_iter().all(|answer| answer == Ok(confirmed(2))));
            assert_eq!(told.begun.load(Ordering::SeqCst), 2);
        };
        tokio::select! {
            () = serve => unreachable!("the questions are open"),
            () = test => {}
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_rounds_that_will_not_come() {
        let (rounds, questions) = rounds();
        drop(questions);
        assert_eq!(rounds.next().await, Err(ConfirmError::Stopped));
    }
}
