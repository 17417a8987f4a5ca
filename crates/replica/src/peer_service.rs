//! What other nodes call. Each call is checked before openraft sees it; what comes back says which store answers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::stream::{self, Stream, StreamExt};
use openraft::errors::RaftError;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use palisade_wire::replica::v1 as wire;
use palisade_wire::replica::v1::append_reply::Outcome;
use palisade_wire::replica::v1::replica_service_server::ReplicaService;
use palisade_world::Lifeline;
use tonic::{Request, Response, Status, Streaming};

use crate::codec::{self, CodecError};
use crate::replica::Inner;
use crate::snapshots::SnapshotData;
use crate::types::{LogId, Snapshot, Types, Vote};
use crate::{Cluster, Gate, Machine, Room};

/// The service that other nodes call.
pub struct PeerService<M: Machine> {
    /// Weak: connections that other nodes keep open must not keep a replica running that was dropped here.
    replica: Weak<Inner<M>>,
    gate: Gate,
}

impl From<CodecError> for Status {
    fn from(error: CodecError) -> Status {
        Status::invalid_argument(error.to_string())
    }
}

fn stopped(why: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("replication has stopped: {why}"))
}

impl<M: Machine> PeerService<M> {
    pub(crate) fn new(replica: Weak<Inner<M>>, gate: Gate) -> PeerService<M> {
        PeerService { replica, gate }
    }

    fn replica(&self) -> Result<Arc<Inner<M>>, Status> {
        self.replica.upgrade().ok_or_else(|| stopped("this node ends"))
    }

    /// The replica, for a call that is meant for it and comes from one that may speak.
    fn checked(&self, envelope: Option<&wire::Envelope>) -> Result<Arc<Inner<M>>, Status> {
        let replica = self.replica()?;
        match replica.credentials.check(&self.gate, envelope) {
            Ok(()) => Ok(replica),
            Err(refused) => {
                replica.note_refused(&refused.to_string());
                Err(Status::from(refused))
            }
        }
    }

    fn vote_request(request: wire::VoteRequest) -> Result<VoteRequest<Types<M::Reply>>, Status> {
        let vote = codec::vote_from("vote request", request.vote)?;
        let last_log_id = codec::log_id_option("vote request", request.last_log_id)?;
        Ok(VoteRequest { vote, last_log_id, leadership_transfer: request.leadership_transfer })
    }

    fn vote_reply(
        replica: &Inner<M>,
        answer: VoteAnswer<Types<M::Reply>>,
    ) -> Result<Response<wire::VoteReply>, Status> {
        let answer = answer.map_err(stopped)?;
        Ok(Response::new(wire::VoteReply {
            responder: Some(replica.credentials.responder()),
            vote: Some(codec::vote(&answer.vote)),
            granted: answer.vote_granted,
            last_log_id: answer.last_log_id.map(codec::log_id),
        }))
    }
}

type VoteAnswer<C> = Result<VoteResponse<C>, RaftError<C>>;

impl<M: Machine> Inner<M> {
    /// Refuses entries that a disk without space could not take: that would end this node's log.
    fn has_room_for(&self, append: &wire::AppendRequest) -> Result<(), Status> {
        if append.entries.is_empty() || self.snapshots.room().get() != Room::None {
            return Ok(());
        }
        let why =
            format!("the disk of node {} is full: it takes no entries until there is space", self.credentials.node_id);
        self.note_refused(&why);
        Err(Status::unavailable(why))
    }
}

fn append_entries<M: Machine>(
    request: wire::AppendRequest,
) -> Result<AppendEntriesRequest<Types<M::Reply>>, CodecError> {
    Ok(AppendEntriesRequest {
        vote: codec::vote_from("append", request.vote)?,
        prev_log_id: codec::log_id_option("append", request.prev_log_id)?,
        entries: request.entries.into_iter().map(codec::entry_from).collect::<Result<_, _>>()?,
        leader_commit: codec::log_id_option("append", request.leader_commit)?,
    })
}

fn matched(log_id: Option<LogId>) -> Outcome {
    Outcome::Matched(wire::Matched { log_id: log_id.map(codec::log_id) })
}

fn outcome<M: Machine>(result: StreamAppendResult<Types<M::Reply>>) -> Outcome {
    match result {
        Ok(log_id) => matched(log_id),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(codec::log_id(at)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(codec::vote(&vote)),
    }
}

/// Where the reader of a stream leaves the reason why it ended early, for the writer to say at the end.
type EndedEarly = Arc<Mutex<Option<Status>>>;

#[tonic::async_trait]
impl<M: Machine> ReplicaService for PeerService<M> {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<wire::AppendReply, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        if !self.gate.is_open() {
            self.checked(None)?;
        }
        let ended: EndedEarly = Arc::default();
        let appends = self.appends(request.into_inner(), Arc::clone(&ended));
        let replica = self.replica()?;
        let results = replica.seeds.scope(async { replica.raft.stream_append(appends) }).await;
        let responder = Some(replica.credentials.responder());
        let replies = results.map(move |result| match result {
            Ok(result) => Ok(wire::AppendReply { responder, outcome: Some(outcome::<M>(result)) }),
            Err(fatal) => Err(stopped(fatal)),
        });
        let last_words = stream::once(async move { ended.lock().unwrap_or_else(PoisonError::into_inner).take() });
        let replies = replies.chain(last_words.filter_map(|status| async move { status.map(Err) }));
        Ok(Response::new(Box::pin(replies)))
    }

    async fn heartbeat(&self, request: Request<wire::AppendRequest>) -> Result<Response<wire::AppendReply>, Status> {
        let line = request.extensions().get::<Lifeline>().cloned();
        let request = request.into_inner();
        let replica = self.checked(request.envelope.as_ref())?;
        let append = append_entries::<M>(request)?;
        let vote = append.vote;
        let (prev, last) = (append.prev_log_id, append.entries.last().map(|entry| entry.log_id));
        let answer = replica.seeds.scope(replica.raft.append_entries(append)).await.map_err(stopped)?;
        if let Some(line) = line
            && !matches!(answer, AppendEntriesResponse::HigherVote(_))
        {
            replica.succession.heard(vote, &line);
        }
        let outcome = match answer {
            AppendEntriesResponse::Success => matched(last.or(prev)),
            AppendEntriesResponse::PartialSuccess(log_id) => matched(log_id),
            AppendEntriesResponse::HigherVote(vote) => Outcome::HigherVote(codec::vote(&vote)),
            AppendEntriesResponse::Conflict => match prev {
                Some(prev) => Outcome::Conflict(codec::log_id(prev)),
                None => return Err(Status::internal("an append from the beginning cannot conflict")),
            },
        };
        Ok(Response::new(wire::AppendReply {
            responder: Some(replica.credentials.responder()),
            outcome: Some(outcome),
        }))
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteReply>, Status> {
        let request = request.into_inner();
        let replica = self.checked(request.envelope.as_ref())?;
        let lost = request.lost_leader.map(|vote| codec::vote_from("vote request", Some(vote))).transpose()?;
        let mut request = Self::vote_request(request)?;
        // A store leader that this node still hears keeps its lease.
        if let Some(lost) = lost {
            request.leadership_transfer &= replica.heeds_loss(lost).await;
        }
        let answer = replica.seeds.scope(replica.raft.vote(request)).await;
        Self::vote_reply(&replica, answer)
    }

    async fn pre_vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteReply>, Status> {
        let request = request.into_inner();
        let replica = self.checked(request.envelope.as_ref())?;
        let request = Self::vote_request(request)?;
        let answer = replica.seeds.scope(replica.raft.pre_vote(request)).await;
        Self::vote_reply(&replica, answer)
    }

    async fn offer_snapshot(
        &self,
        request: Request<wire::SnapshotHead>,
    ) -> Result<Response<wire::SnapshotOfferReply>, Status> {
        let head = request.into_inner();
        let replica = self.checked(head.envelope.as_ref())?;
        replica.credentials.check_level(head.level)?;
        let have = replica.arriving.have(&head)?;
        Ok(Response::new(wire::SnapshotOfferReply { responder: Some(replica.credentials.responder()), have }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotReply>, Status> {
        let mut chunks = request.into_inner();
        let mut first =
            chunks.message().await?.ok_or_else(|| Status::invalid_argument("a snapshot without a piece"))?;
        let head = first.head.take().ok_or_else(|| Status::invalid_argument("a snapshot without a head"))?;
        let replica = self.checked(head.envelope.as_ref())?;
        replica.credentials.check_level(head.level)?;
        let vote: Vote = codec::vote_from("snapshot", head.vote)?;
        let incoming = replica.arriving.begin(&head, &replica.snapshots).await?;
        incoming.add(first).await?;
        while let Some(chunk) = chunks.message().await? {
            incoming.add(chunk).await?;
        }
        let snapshot = Snapshot { meta: incoming.meta.clone(), snapshot: SnapshotData::received(incoming.finish()?) };
        let installed = replica.seeds.scope(replica.raft.install_full_snapshot(vote, snapshot)).await;
        let answer = installed.map_err(stopped)?;
        let responder = Some(replica.credentials.responder());
        Ok(Response::new(wire::SnapshotReply { responder, vote: Some(codec::vote(&answer.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderReply>, Status> {
        use wire::transfer_leader_reply::Refused;

        let request = request.into_inner();
        let replica = self.checked(request.envelope.as_ref())?;
        let from = codec::vote_from("transfer", request.from_leader)?;
        let last_log_id = codec::log_id_option("transfer", request.last_log_id)?;
        if replica.snapshots.room().get() != Room::Enough {
            return Err(Status::unavailable("the disk of this node is full: it takes no leadership of the store"));
        }
        let transfer = TransferLeaderRequest::new(from, request.to, last_log_id);
        if request.to == replica.credentials.node_id {
            replica.succession.handed_over(&from);
        }
        let answer = replica.seeds.scope(replica.raft.handle_transfer_leader(transfer)).await.map_err(stopped)?;
        let refused = answer.err().map(|error| match error {
            TransferLeaderError::VoteChanged { expected, actual } => Refused::VoteChanged(wire::VoteChanged {
                expected: Some(codec::vote(&expected)),
                actual: Some(codec::vote(&actual)),
            }),
            TransferLeaderError::LogNotFlushed { expected, actual } => Refused::LogNotFlushed(wire::LogNotFlushed {
                expected: expected.map(codec::log_id),
                actual: actual.map(codec::log_id),
            }),
        });
        let responder = Some(replica.credentials.responder());
        Ok(Response::new(wire::TransferLeaderReply { responder, refused }))
    }

    async fn leader_lost(
        &self,
        request: Request<wire::LeaderLostRequest>,
    ) -> Result<Response<wire::LeaderLostReply>, Status> {
        let request = request.into_inner();
        let replica = self.checked(request.envelope.as_ref())?;
        let from = request.envelope.map_or(0, |envelope| envelope.from_node);
        let vote = codec::vote_from("question about the store leader", request.vote)?;
        let (lost, last_log_id) = replica.leader_lost(vote).await.ok_or_else(|| stopped("its core has ended"))?;
        replica.succession.was_asked(from, vote);
        Ok(Response::new(wire::LeaderLostReply {
            responder: Some(replica.credentials.responder()),
            lost,
            last_log_id: last_log_id.map(codec::log_id),
        }))
    }

    async fn confirm(&self, request: Request<wire::ConfirmRequest>) -> Result<Response<wire::ConfirmReply>, Status> {
        let line = request.extensions().get::<Lifeline>().cloned();
        let request = request.into_inner();
        let replica = self.checked(request.envelope.as_ref())?;
        let vote = codec::vote_from("question about the vote", request.vote)?;
        let (own, last_log_id) = replica.vote_and_log().await.ok_or_else(|| stopped("its core has ended"))?;
        // It may have granted it and not heard yet that others did, too.
        let is_yours = own.leader_id == vote.leader_id;
        if let Some(line) = line.filter(|_| is_yours) {
            replica.succession.heard(vote, &line);
        }
        let (responder, last_log_id) = (Some(replica.credentials.responder()), last_log_id.map(codec::log_id));
        Ok(Response::new(wire::ConfirmReply { responder, is_yours, last_log_id }))
    }

    async fn hello(&self, request: Request<wire::HelloRequest>) -> Result<Response<wire::HelloReply>, Status> {
        let asker = request.into_inner();
        let replica = self.replica()?;
        let credentials = &replica.credentials;
        let Cluster { id, generation } = credentials.machine.cluster();
        Ok(Response::new(wire::HelloReply {
            node_id: credentials.node_id,
            store_id: credentials.store_id,
            cluster_id: id,
            generation,
            initialized: replica.is_initialized(),
            names_you: credentials.names(asker.node_id),
            process: credentials.process,
            acknowledged: credentials.acknowledged.of(asker.store_id),
            removed_you: credentials.has_removed(asker.node_id),
            disk_is_full: replica.snapshots.room().get() != Room::Enough,
            level: credentials.machine.level().known,
            cluster_level: credentials.machine.level().at,
            restored: replica.snapshots.restored().map(|(restored, _)| codec::restored(&restored)),
        }))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinReply>, Status> {
        let replica = self.replica()?;
        Ok(Response::new(replica.join(request.into_inner()).await))
    }
}

impl<M: Machine> PeerService<M> {
    /// The appends of a stream, each checked; ends at the first that is refused, and leaves the reason in `ended`.
    fn appends(
        &self,
        messages: Streaming<wire::AppendRequest>,
        ended: EndedEarly,
    ) -> impl Stream<Item = AppendEntriesRequest<Types<M::Reply>>> + Send + 'static {
        let service = PeerService { replica: Weak::clone(&self.replica), gate: self.gate.clone() };
        stream::unfold((messages, service, ended), |(mut messages, service, ended)| async move {
            let refusal = match messages.message().await {
                Ok(None) => return None,
                Err(status) => status,
                Ok(Some(message)) => {
                    let checked = service.checked(message.envelope.as_ref());
                    let room = checked.and_then(|replica| replica.has_room_for(&message));
                    match room.and_then(|()| append_entries::<M>(message).map_err(Status::from)) {
                        Ok(append) => return Some((append, (messages, service, ended))),
                        Err(refusal) => refusal,
                    }
                }
            };
            *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
            None
        })
    }
}
