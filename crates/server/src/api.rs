//! What the services share: how a command gets its answer and how a read gets its state. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use palisade_coord_core::{Command, Outcome, Reply, State};
use palisade_fence::ClusterId;
use palisade_planted::{self as planted, Bug};
use palisade_replica::{Cluster, Machine, Replica};
use palisade_wire::convert::KeyLimits;
use palisade_wire::coord::v1::{ErrorDetail, Header};
use palisade_wire::{convert, status};
use palisade_world::World;
use prost::Message;
use tokio::sync::watch;
use tonic::Status;

use crate::confirmation::Touch;
use crate::long_reads::LongReads;
use crate::machine::CoordMachine;
use crate::proposer::{Proposer, SubmitError};
use crate::refusals;

/// The longest that a request waits for its outcome before it is told that it is unknown. Longer than any election, so
/// that a caller without a deadline of its own is not left hanging; a client's own deadline ends the wait sooner.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How new the state must be that a read sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fresh {
    /// It has everything that was acknowledged to anybody before the read.
    Linearizable,
    /// Whatever this node has applied.
    Serializable,
}

impl Fresh {
    pub(crate) fn of(serializable: bool) -> Fresh {
        if serializable { Fresh::Serializable } else { Fresh::Linearizable }
    }
}

/// One node as its services see it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) machine: Arc<CoordMachine>,
    pub(crate) replica: Replica<CoordMachine>,
    pub(crate) proposer: Proposer,
    /// Whether a quorum follows this node.
    pub(crate) touch: watch::Receiver<Touch>,
    pub(crate) long_reads: LongReads,
    pub(crate) key_limits: KeyLimits,
    pub(crate) world: World,
}

impl Api {
    /// The wall clock, for the stamp of a command.
    pub(crate) fn unix_ms(&self) -> u64 {
        self.world.unix_ms()
    }

    /// A write of keys, if it is one that this node allows.
    pub(crate) fn write<R: Message>(
        &self,
        request: R,
        convert: impl FnOnce(R, u64) -> Result<Command, ErrorDetail>,
    ) -> Result<Command, ErrorDetail> {
        let bytes = request.encoded_len();
        let command = convert(request, self.unix_ms())?;
        self.key_limits.check(&command, bytes)?;
        Ok(command)
    }

    /// Has a checked command applied.
    pub(crate) async fn apply(&self, command: Result<Command, ErrorDetail>) -> Result<(Header, Reply), Status> {
        let command = command.map_err(status::refuse)?;
        self.answer(self.proposer.submit(command)).await
    }

    /// The answer to a command that was given to the proposer.
    pub(crate) async fn answer(
        &self,
        submitted: impl Future<Output = Result<Outcome, SubmitError>>,
    ) -> Result<(Header, Reply), Status> {
        let submitted = self.world.timeout(ANSWER_LIMIT, submitted).await;
        let late = || Err(SubmitError::Unknown { why: format!("no outcome within {ANSWER_LIMIT:?}") });
        let outcome = submitted.unwrap_or_else(late).map_err(|error| status::refuse(refusals::of_submit(error)))?;
        let header = self.header(&outcome);
        match outcome.reply {
            Ok(reply) => Ok((header, reply)),
            Err(refusal) => Err(status::refuse(convert::refusal(&refusal, header))),
        }
    }

    /// Looks at a state that has everything that was acknowledged to anybody before this call.
    pub(crate) async fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, Status> {
        self.barrier().await?;
        Ok(self.machine.read(look))
    }

    /// Looks at a state that is as new as the caller asked for.
    pub(crate) async fn read_as<T>(&self, fresh: Fresh, look: impl FnOnce(&State) -> T) -> Result<T, Status> {
        match fresh {
            Fresh::Linearizable => self.read(look).await,
            // Before the founding there is nothing that could be behind: an empty answer would be taken for the cluster's.
            Fresh::Serializable if self.machine.founded().borrow().is_none() => {
                Err(status::refuse(refusals::no_state()))
            }
            Fresh::Serializable => Ok(self.machine.read(look)),
        }
    }

    /// After it this node's state has everything that was acknowledged to anybody before the call.
    pub(crate) async fn barrier(&self) -> Result<(), Status> {
        if planted::is(Bug::ReadWithoutRound) {
            return Ok(());
        }
        match self.world.timeout(ANSWER_LIMIT, self.replica.read_barrier()).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(status::refuse(refusals::of_read(error))),
            None => Err(status::refuse(refusals::no_store_leader())),
        }
    }

    /// The header of the answer to one command: that command's own place in the order. It does not look at the state, which
    /// may be busy with the next entry.
    pub(crate) fn header(&self, outcome: &Outcome) -> Header {
        let Cluster { id, generation } = self.machine.cluster();
        convert::header_at(ClusterId(id), generation, outcome)
    }
}

/// The state machine answered a command with another command's reply: a bug, and nothing is known about the effect.
pub(crate) fn wrong_reply(reply: &Reply) -> Status {
    Status::internal(format!("the state machine answered with {reply:?}"))
}
