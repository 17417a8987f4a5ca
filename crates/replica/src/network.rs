//! openraft's view of the other nodes. Each call has a deadline, says who speaks, and believes only the store it asked.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use openraft::base::BoxFuture;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use palisade_planted::{self as planted, Bug};
use palisade_storage::SNAPSHOT_PIECE_BYTES;
use palisade_wire::replica::v1 as wire;
use palisade_world::World;
use tonic::Code;

use crate::acknowledged::Acknowledged;
use crate::append_stream::AppendStream;
use crate::codec::{self, CodecError};
use crate::credentials::{Credentials, Refused, check_responder};
use crate::links::{Client, LinkTable, Links};
use crate::reach::Reach;
use crate::snapshot_transfer::{self, Sent};
use crate::snapshots::{SnapshotData, Snapshots};
use crate::succession::Succession;
use crate::types::{Node, Snapshot, Types, Vote};
use crate::{Machine, Peer};

/// Makes connections' ends for openraft.
pub(crate) struct Network<M: Machine> {
    pub(crate) succession: Succession,
    pub(crate) links: LinkTable,
    pub(crate) credentials: Arc<Credentials<M>>,
    pub(crate) reach: Arc<Reach>,
    pub(crate) snapshots: Snapshots,
    pub(crate) world: World,
    /// How long an answer to an append may take before the stream is made anew.
    pub(crate) patience: Duration,
}

impl<M: Machine> Network<M> {
    fn wire_to(&self, target: u64, node: &Node, appends: Appends) -> Wire<M> {
        let peer = node.peer(target);
        let links = self.links.to(&peer).map_err(|bad| bad.to_string());
        Wire {
            peer,
            links,
            appends,
            succession: self.succession.clone(),
            credentials: Arc::clone(&self.credentials),
            reach: Arc::clone(&self.reach),
            snapshots: self.snapshots.clone(),
            world: self.world.clone(),
            patience: self.patience,
        }
    }
}

impl<M: Machine> RaftNetworkFactory<Types<M::Reply>> for Network<M> {
    type Network = Wire<M>;

    async fn new_client(&mut self, target: u64, node: &Node) -> Wire<M> {
        self.wire_to(target, node, Appends::Stream)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Wire<M> {
        self.wire_to(target, node, Appends::Heartbeat)
    }
}

/// How appends travel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Appends {
    /// On one long-lived stream, several in flight.
    Stream,
    /// One at a time, on the connection that bulk traffic cannot delay.
    Heartbeat,
}

/// The way to one peer.
pub(crate) struct Wire<M: Machine> {
    peer: Peer,
    /// Or what is wrong with the peer's address.
    links: Result<Links, String>,
    appends: Appends,
    succession: Succession,
    credentials: Arc<Credentials<M>>,
    reach: Arc<Reach>,
    snapshots: Snapshots,
    world: World,
    patience: Duration,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Trying again at once is of no use: not reached, or refused.
    Unreachable(String),
    /// It may work at once.
    Broken(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Unreachable(why) | CallError::Broken(why) => f.write_str(why),
        }
    }
}

impl From<tonic::Status> for CallError {
    fn from(status: tonic::Status) -> CallError {
        let why = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::Unavailable | Code::FailedPrecondition | Code::Unimplemented | Code::Unknown => {
                CallError::Unreachable(why)
            }
            _ => CallError::Broken(why),
        }
    }
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> CallError {
        CallError::Unreachable(refused.to_string())
    }
}

impl From<CodecError> for CallError {
    fn from(error: CodecError) -> CallError {
        CallError::Unreachable(format!("the answer cannot be read: {error}"))
    }
}

impl<R: Send + Sync + fmt::Debug + 'static> From<CallError> for RPCError<Types<R>> {
    fn from(error: CallError) -> RPCError<Types<R>> {
        match error {
            CallError::Unreachable(why) => RPCError::Unreachable(Unreachable::from_string(why)),
            CallError::Broken(why) => RPCError::Network(NetworkError::from_string(why)),
        }
    }
}

impl<M: Machine> Wire<M> {
    fn links(&self) -> Result<Links, CallError> {
        let peer = self.peer();
        if peer.store_id == 0 && !planted::is(Bug::UnboundLearnerCounts) {
            return Err(Refused::NotBound { node: peer.node_id }.into());
        }
        self.links.clone().map_err(CallError::Unreachable)
    }

    /// Whom it reaches. A node is bound to its store after it was added, and openraft keeps this way to it.
    fn peer(&self) -> Peer {
        let mut peer = self.peer.clone();
        if peer.store_id == 0 {
            peer.store_id = self.credentials.names(peer.node_id).unwrap_or(0);
        }
        peer
    }

    fn envelope(&self) -> Option<wire::Envelope> {
        Some(self.credentials.envelope(&self.peer()))
    }

    /// A call with a deadline.
    async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, CallError> {
        match self.world.timeout(limit, call).await {
            Some(answer) => Ok(answer?.into_inner()),
            None => Err(CallError::Broken(format!("{} has not answered within {limit:?}", self.peer))),
        }
    }

    async fn heartbeat(
        &self,
        request: AppendEntriesRequest<Types<M::Reply>>,
        option: &RPCOption,
    ) -> Result<StreamAppendResult<Types<M::Reply>>, CallError> {
        self.credentials.acknowledged.committed(request.leader_commit.map(|id| id.index));
        let request = append_request(self.envelope(), &request);
        let mut client = self.links()?.control;
        // openraft gives it up itself at the hard limit. The follower answers when its disk has synced what it took
        // before, so every millisecond counts; just below the limit the silence is noted here.
        let reply = self.call(option.hard_ttl() * 15 / 16, client.heartbeat(request)).await;
        let result = reply.and_then(|reply| append_result(&self.peer(), &self.credentials.acknowledged, reply));
        self.reach.note(&self.peer, self.world.now(), result.as_ref().err());
        result
    }

    fn vote_request(&self, request: &VoteRequest<Types<M::Reply>>) -> wire::VoteRequest {
        let lost_leader =
            if request.leadership_transfer { self.succession.stands_unasked(&request.vote) } else { None };
        wire::VoteRequest {
            envelope: self.envelope(),
            vote: Some(codec::vote(&request.vote)),
            last_log_id: request.last_log_id.map(codec::log_id),
            leadership_transfer: request.leadership_transfer,
            lost_leader: lost_leader.as_ref().map(codec::vote),
        }
    }

    fn vote_response(&self, reply: wire::VoteReply) -> Result<VoteResponse<Types<M::Reply>>, CallError> {
        check_responder(&self.peer(), reply.responder)?;
        let vote = codec::vote_from("answer to a vote", reply.vote)?;
        let last_log_id = codec::log_id_option("answer to a vote", reply.last_log_id)?;
        Ok(VoteResponse { vote, vote_granted: reply.granted, last_log_id })
    }
}

/// An append as a message.
pub(crate) fn append_request<R: Send + Sync + fmt::Debug + 'static>(
    envelope: Option<wire::Envelope>,
    request: &AppendEntriesRequest<Types<R>>,
) -> wire::AppendRequest {
    wire::AppendRequest {
        envelope,
        vote: Some(codec::vote(&request.vote)),
        prev_log_id: request.prev_log_id.map(codec::log_id),
        entries: request.entries.iter().map(codec::entry).collect(),
        leader_commit: request.leader_commit.map(codec::log_id),
    }
}

/// What `asked` says to an append; a store that went back is not heard.
pub(crate) fn append_result<R: Send + Sync + fmt::Debug + 'static>(
    asked: &Peer,
    acknowledged: &Acknowledged,
    reply: wire::AppendReply,
) -> Result<StreamAppendResult<Types<R>>, CallError> {
    use openraft::raft::StreamAppendError;
    use wire::append_reply::Outcome;

    const WHAT: &str = "answer to an append";
    check_responder(asked, reply.responder)?;
    let store_id = reply.responder.map_or(0, |responder| responder.store);
    Ok(match reply.outcome {
        Some(Outcome::Matched(matched)) => {
            let matched = codec::log_id_option(WHAT, matched.log_id)?;
            acknowledged.heard(store_id, matched.map(|id| id.index));
            Ok(matched)
        }
        Some(Outcome::Conflict(at)) => {
            let at = codec::log_id_from(WHAT, at)?;
            if let Some(why) = acknowledged.missing(asked, store_id, at.index) {
                return Err(CallError::Unreachable(why));
            }
            Err(StreamAppendError::Conflict(at))
        }
        Some(Outcome::HigherVote(vote)) => Err(StreamAppendError::HigherVote(codec::vote_from(WHAT, Some(vote))?)),
        None => return Err(CallError::Unreachable(format!("{asked} answered an append with nothing"))),
    })
}

impl<M: Machine> NetStreamAppend<Types<M::Reply>> for Wire<M> {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<Types<M::Reply>>, RPCError<Types<M::Reply>>>>,
            RPCError<Types<M::Reply>>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types<M::Reply>>> + Send + Unpin + 'static,
    {
        match self.appends {
            Appends::Heartbeat => async move {
                let wire: &'s Wire<M> = self;
                let answers = input.then(move |request| {
                    let option = option.clone();
                    async move { wire.heartbeat(request, &option).await.map_err(RPCError::from) }
                });
                Ok(answers.boxed())
            }
            .boxed(),
            Appends::Stream => async move {
                // openraft waits out its back-off inside `input`. Whatever may fail here comes after that: a peer that
                // cannot be asked at all, or refuses connections at once, would be tried in a loop without a pause.
                let mut input = input.peekable();
                if Pin::new(&mut input).peek().await.is_none() {
                    return Ok(stream::empty().boxed());
                }
                let links = self.links()?;
                let append = AppendStream {
                    peer: self.peer(),
                    client: links.replication,
                    credentials: Arc::clone(&self.credentials),
                    world: self.world.clone(),
                    patience: self.patience,
                };
                let answers = append.open(input).await?;
                Ok(answers.map(|answer| answer.map_err(RPCError::from)).boxed())
            }
            .boxed(),
        }
    }
}

impl<M: Machine> NetVote<Types<M::Reply>> for Wire<M> {
    async fn vote(
        &mut self,
        request: VoteRequest<Types<M::Reply>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<M::Reply>>, RPCError<Types<M::Reply>>> {
        let mut client = self.links()?.control;
        let reply = self.call(option.soft_ttl(), client.vote(self.vote_request(&request))).await?;
        Ok(self.vote_response(reply)?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types<M::Reply>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<M::Reply>>, RPCError<Types<M::Reply>>> {
        let mut client = self.links()?.control;
        let reply = self.call(option.soft_ttl(), client.pre_vote(self.vote_request(&request))).await?;
        Ok(self.vote_response(reply)?)
    }
}

impl<M: Machine> NetTransferLeader<Types<M::Reply>> for Wire<M> {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types<M::Reply>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<M::Reply>>, RPCError<Types<M::Reply>>> {
        let mut client = self.links()?.control;
        let message = wire::TransferLeaderRequest {
            envelope: self.envelope(),
            from_leader: Some(codec::vote(request.from_leader())),
            to: *request.to_node_id(),
            last_log_id: request.last_log_id().copied().map(codec::log_id),
        };
        let reply = self.call(option.soft_ttl(), client.transfer_leader(message)).await?;
        Ok(transfer_response(&self.peer(), reply)?)
    }
}

fn transfer_response<R: Send + Sync + fmt::Debug + 'static>(
    asked: &Peer,
    reply: wire::TransferLeaderReply,
) -> Result<TransferLeaderResponse<Types<R>>, CallError> {
    use wire::transfer_leader_reply::Refused as Why;

    const WHAT: &str = "answer to a transfer";
    check_responder(asked, reply.responder)?;
    Ok(match reply.refused {
        None => Ok(()),
        Some(Why::VoteChanged(wire::VoteChanged { expected, actual })) => Err(TransferLeaderError::VoteChanged {
            expected: codec::vote_from(WHAT, expected)?,
            actual: codec::vote_from(WHAT, actual)?,
        }),
        Some(Why::LogNotFlushed(wire::LogNotFlushed { expected, actual })) => Err(TransferLeaderError::LogNotFlushed {
            expected: codec::log_id_option(WHAT, expected)?,
            actual: codec::log_id_option(WHAT, actual)?,
        }),
    })
}

impl<M: Machine> Wire<M> {
    /// How much of a snapshot the peer has. One that does not know the question has nothing.
    async fn offer(&self, client: &mut Client, head: wire::SnapshotHead, limit: Duration) -> Result<u64, CallError> {
        let bytes = head.bytes;
        let asked = self.world.timeout(limit, client.offer_snapshot(head)).await;
        let reply = match asked {
            Some(Err(status)) if status.code() == Code::Unimplemented => return Ok(0),
            Some(answer) => answer?.into_inner(),
            None => return Err(CallError::Broken(format!("{} has not answered within {limit:?}", self.peer()))),
        };
        check_responder(&self.peer(), reply.responder)?;
        let usable = reply.have <= bytes && reply.have.is_multiple_of(SNAPSHOT_PIECE_BYTES as u64);
        Ok(if usable { reply.have } else { 0 })
    }

    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot, patience: Duration) -> Result<Vote, CallError> {
        let SnapshotData::Saved(saved) = snapshot.snapshot else {
            return Err(CallError::Broken("only a snapshot that is saved is sent".to_owned()));
        };
        let mut client = self.links()?.snapshot;
        let mut head = wire::SnapshotHead {
            envelope: self.envelope(),
            vote: Some(codec::vote(&vote)),
            meta: Some(codec::snapshot_meta(&snapshot.meta)),
            bytes: saved.bytes(),
            crc32: saved.checksum(),
            from: 0,
            level: self.credentials.machine.level().at,
        };
        head.from = self.offer(&mut client, head.clone(), patience).await?;
        tracing::info!(to = %self.peer(), bytes = head.bytes, from = head.from, "sending a snapshot");
        let sent = Sent::default();
        let chunks = snapshot_transfer::chunks(head, saved, self.snapshots.clone(), sent.clone());
        let mut answer = std::pin::pin!(client.install_snapshot(chunks));
        // A large snapshot takes as long as it takes; what must not happen is that nothing moves.
        let answered = loop {
            let before = sent.pieces();
            match self.world.timeout(patience, &mut answer).await {
                Some(answered) => break answered,
                None if sent.pieces() > before => {}
                None => return Err(CallError::Broken(format!("{} has taken nothing for {patience:?}", self.peer()))),
            }
        };
        let reply = match (answered, sent.unreadable()) {
            (_, Some(why)) => return Err(CallError::Unreachable(why)),
            (answered, None) => answered?.into_inner(),
        };
        check_responder(&self.peer(), reply.responder)?;
        Ok(codec::vote_from("answer to a snapshot", reply.vote)?)
    }
}

impl<M: Machine> NetSnapshot<Types<M::Reply>> for Wire<M> {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types<M::Reply>>, StreamingError<Types<M::Reply>>> {
        tokio::select! {
            biased;
            sent = self.send_snapshot(vote, snapshot, option.hard_ttl()) => {
                Ok(SnapshotResponse::new(sent.map_err(RPCError::from)?))
            }
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }
}

impl<M: Machine> NetBackoff<Types<M::Reply>> for Wire<M> {
    /// The configured one.
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}
