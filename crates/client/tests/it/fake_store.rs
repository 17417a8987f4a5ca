//! One node's public API over a few maps: enough of a store to lead, to hand over and to remember request ids. What it is told
//! is kept, in its order. It has no TTLs: a session ends only when it is closed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use palisade_wire::coord::v1::election_service_server::{ElectionService, ElectionServiceServer};
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::kv_service_server::{KvService, KvServiceServer};
use palisade_wire::coord::v1::observe_event::{self, Kind as Observed};
use palisade_wire::coord::v1::session_service_server::{SessionService, SessionServiceServer};
use palisade_wire::coord::v1::{self, ClientFrame, ErrorDetail, ServerFrame, client_frame, server_frame};
use palisade_wire::status::{not_applied, refuse};
use palisade_world::{Task, World, grpc};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

type Frames = mpsc::UnboundedSender<Result<ServerFrame, Status>>;

/// What a node was told, in its order.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Told {
    Open { ttl_ms: u64 },
    Attach { session: u64 },
    Close { session: u64 },
    Campaign { session: u64, serial: u64, candidate: String },
    Put { key: Vec<u8>, request_id: Option<v1::RequestId> },
    Resign { token: u64 },
    Withdraw { session: u64, serial: u64 },
    Proclaim { address: String, request_id: Option<v1::RequestId> },
    Transfer { to: String, request_id: Option<v1::RequestId> },
}

/// What becomes of the next put, or of the next transfer.
#[derive(Clone, Debug)]
pub(crate) enum NextPut {
    /// It is applied and never answered.
    ApplyInSilence,
    /// Surely not applied.
    Refuse(ErrorDetail),
}

#[derive(Default)]
struct State {
    cluster: u64,
    seq: u64,
    tokens: u64,
    leader: Option<v1::Grant>,
    queue: VecDeque<v1::Grant>,
    sessions: BTreeMap<u64, Frames>,
    ended: u64,
    keys: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
    answers: BTreeMap<(u64, u64), u64>,
    next_puts: VecDeque<NextPut>,
    store_leader: Option<String>,
}

/// A node.
#[derive(Clone)]
pub(crate) struct FakeStore {
    state: Arc<Mutex<State>>,
    told: Arc<watch::Sender<Vec<Told>>>,
    changes: broadcast::Sender<v1::ObserveReply>,
}

/// A node that serves. It stops with this handle.
pub(crate) struct Node {
    pub(crate) store: FakeStore,
    pub(crate) address: String,
    _serving: Task<()>,
}

impl FakeStore {
    pub(crate) async fn start() -> Node {
        FakeStore::of_cluster(7).await
    }

    pub(crate) async fn of_cluster(cluster: u64) -> Node {
        let state = State { cluster, tokens: 40, ..State::default() };
        let store =
            FakeStore { state: Arc::new(Mutex::new(state)), told: Arc::default(), changes: broadcast::Sender::new(64) };
        let world = World::real();
        let listener = world.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().to_string();
        let (served, served_in) = (store.clone(), world.clone());
        let serving = world.spawn("fake-store", async move {
            grpc::server(&served_in)
                .add_service(KvServiceServer::new(served.clone()))
                .add_service(ElectionServiceServer::new(served.clone()))
                .add_service(SessionServiceServer::new(served))
                .serve_with_incoming(grpc::incoming(listener))
                .await
                .unwrap();
        });
        Node { store, address, _serving: serving }
    }

    /// A node that is not the store leader, and says who is.
    pub(crate) async fn follower(of: &str) -> Node {
        let node = FakeStore::start().await;
        node.store.follow(of);
        node
    }

    /// From now on it is not the store leader; this one is.
    pub(crate) fn follow(&self, leader: &str) {
        self.lock().store_leader = Some(leader.to_owned());
    }

    /// From now on it is the store leader.
    pub(crate) fn lead(&self) {
        self.lock().store_leader = None;
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.borrow().clone()
    }

    /// Waits until it has been told something.
    pub(crate) async fn until(&self, is: impl Fn(&Told) -> bool) -> Told {
        let mut told = self.told.subscribe();
        let all = crate::within("the store is told", told.wait_for(|told| told.iter().any(&is))).await.unwrap();
        all.iter().find(|it| is(it)).unwrap().clone()
    }

    pub(crate) fn next_put(&self, next: NextPut) {
        self.lock().next_puts.push_back(next);
    }

    pub(crate) fn value(&self, key: &[u8]) -> Option<(Vec<u8>, u64)> {
        self.lock().keys.get(key).cloned()
    }

    /// An administrator ends the present leadership.
    pub(crate) fn remove_leader(&self) {
        let mut state = self.lock();
        let grant = state.leader.take().unwrap();
        let header = state.header();
        let revoked = v1::Revoked {
            header: Some(header),
            session: grant.session,
            serial: grant.serial,
            election: grant.election,
            token: grant.token,
            why: "removed".to_owned(),
        };
        state.event(grant.session, server_frame::Body::Revoked(revoked));
        self.fill(&mut state, grant.token);
    }

    /// An administrator asks for the end of the present leadership, for this candidate, and of its session.
    pub(crate) fn ask_leader(&self, to: &str) {
        let state = self.lock();
        let grant = state.leader.as_ref().unwrap();
        let requested = v1::EndRequested {
            header: None,
            session: grant.session,
            serial: grant.serial,
            election: grant.election.clone(),
            token: grant.token,
            to: to.to_owned(),
        };
        state.event(grant.session, server_frame::Body::EndRequested(requested));
        let wish = v1::session_asked::Wish::StopRenewing.into();
        let asked = v1::SessionAsked { header: None, session: grant.session, wish };
        state.event(grant.session, server_frame::Body::SessionAsked(asked));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn say(&self, told: Told) {
        self.told.send_modify(|all| all.push(told));
    }

    fn serve(&self) -> Result<(), Status> {
        match &self.lock().store_leader {
            None => Ok(()),
            Some(address) => Err(refuse(ErrorDetail {
                store_leader: Some(v1::StoreLeader { node_id: 1, address: address.clone() }),
                ..not_applied(Kind::NotStoreLeader, "")
            })),
        }
    }

    /// The first in line leads.
    fn fill(&self, state: &mut State, previous: u64) {
        let event = match state.queue.pop_front() {
            Some(next) => {
                let grant = state.grant(next);
                let granted = v1::Granted { header: Some(state.header()), grant: Some(grant.clone()) };
                state.event(grant.session, server_frame::Body::Granted(granted));
                elected(grant, previous)
            }
            None => Observed::Vacant(observe_event::Vacant { previous_token: previous, why: "closed".to_owned() }),
        };
        self.publish(state, event);
    }

    fn publish(&self, state: &mut State, event: Observed) {
        let header = Some(state.header());
        let _ = self.changes.send(v1::ObserveReply { header, events: vec![v1::ObserveEvent { kind: Some(event) }] });
    }

    fn frame(&self, frame: ClientFrame, frames: &Frames) -> Option<server_frame::Body> {
        use client_frame::Body;
        let mut state = self.lock();
        let state = &mut *state;
        Some(match frame.body? {
            Body::ClientGone(_) => return None,
            Body::Open(open) => {
                self.say(Told::Open { ttl_ms: open.ttl_ms });
                let session = state.sessions.len() as u64 + state.ended + 1;
                state.sessions.insert(session, frames.clone());
                server_frame::Body::Opened(v1::SessionOpened {
                    header: Some(state.header()),
                    session,
                    attach_generation: 1,
                    ttl_ms: open.ttl_ms,
                })
            }
            Body::Attach(attach) => {
                self.say(Told::Attach { session: attach.session });
                let Some(known) = state.sessions.get_mut(&attach.session) else { return Some(ended()) };
                *known = frames.clone();
                let waiting = |it: &v1::Grant| v1::WaitingCandidacy {
                    election: it.election.clone(),
                    candidate_id: it.candidate_id.clone(),
                    serial: it.serial,
                };
                server_frame::Body::Attached(v1::SessionAttached {
                    header: Some(state.header()),
                    session: attach.session,
                    held: state.leader.iter().filter(|it| it.session == attach.session).cloned().collect(),
                    waiting: state.queue.iter().filter(|it| it.session == attach.session).map(waiting).collect(),
                    ..Default::default()
                })
            }
            Body::KeepAlive(keep_alive) => {
                let sessions = keep_alive.sessions.into_iter().filter(|it| state.sessions.contains_key(it)).collect();
                server_frame::Body::KeptAlive(v1::KeptAlive { sessions, not_renewed: vec![] })
            }
            Body::Campaign(campaign) => {
                let (session, serial) = (campaign.session, campaign.serial);
                self.say(Told::Campaign { session, serial, candidate: campaign.candidate_id.clone() });
                if !state.sessions.contains_key(&session) {
                    return Some(ended());
                }
                let candidate = v1::Grant {
                    election: campaign.election,
                    candidate_id: campaign.candidate_id,
                    session,
                    serial,
                    value: campaign.value,
                    ..Default::default()
                };
                let mut all = state.leader.iter().chain(&state.queue);
                if all.any(|it| it.candidate_id == candidate.candidate_id && it.session != session) {
                    let error = Some(not_applied(Kind::CandidateExists, ""));
                    return Some(server_frame::Body::Refused(v1::Refused { error }));
                }
                if state.leader.is_some() {
                    state.queue.push_back(candidate);
                    server_frame::Body::Campaigned(v1::Campaigned { header: Some(state.header()), grant: None })
                } else {
                    let grant = state.grant(candidate);
                    self.publish(state, elected(grant.clone(), 0));
                    server_frame::Body::Campaigned(v1::Campaigned { header: Some(state.header()), grant: Some(grant) })
                }
            }
            Body::Withdraw(withdraw) => {
                let v1::Withdraw { session, serial } = withdraw;
                self.say(Told::Withdraw { session, serial });
                if !state.sessions.contains_key(&session) {
                    return Some(ended());
                }
                let is = |it: &v1::Grant| (it.session, it.serial) == (session, serial);
                let waited = state.queue.len();
                state.queue.retain(|it| !is(it));
                let mut already = state.queue.len() == waited;
                if let Some(grant) = state.leader.take_if(|it| is(it)) {
                    already = false;
                    self.fill(state, grant.token);
                }
                server_frame::Body::Withdrew(v1::Withdrew { header: Some(state.header()), session, serial, already })
            }
            Body::Close(close) => {
                self.say(Told::Close { session: close.session });
                if state.sessions.remove(&close.session).is_none() {
                    return Some(ended());
                }
                state.ended += 1;
                state.queue.retain(|it| it.session != close.session);
                if let Some(grant) = state.leader.take_if(|it| it.session == close.session) {
                    self.fill(state, grant.token);
                }
                server_frame::Body::Closed(v1::SessionClosed { header: Some(state.header()), session: close.session })
            }
        })
    }
}

fn ended() -> server_frame::Body {
    server_frame::Body::Refused(v1::Refused { error: Some(not_applied(Kind::SessionEnded, "")) })
}

fn elected(grant: v1::Grant, previous_token: u64) -> Observed {
    Observed::Elected(observe_event::Elected { leader: Some(grant), previous_token, why: String::new() })
}

impl State {
    fn header(&mut self) -> v1::Header {
        self.seq += 1;
        v1::Header { cluster_id: self.cluster, generation: 0, seq: self.seq, revision: 0 }
    }

    fn grant(&mut self, candidate: v1::Grant) -> v1::Grant {
        self.tokens += 1;
        let grant = v1::Grant { token: self.tokens, seq: self.seq, ..candidate };
        self.leader = Some(grant.clone());
        grant
    }

    fn event(&self, session: u64, body: server_frame::Body) {
        if let Some(frames) = self.sessions.get(&session) {
            let _ = frames.send(Ok(ServerFrame { call: 0, body: Some(body) }));
        }
    }
}

#[tonic::async_trait]
impl SessionService for FakeStore {
    type StreamStream = UnboundedReceiverStream<Result<ServerFrame, Status>>;

    async fn close(&self, _: Request<v1::CloseSessionRequest>) -> Result<Response<v1::CloseSessionReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list(&self, _: Request<v1::ListSessionsRequest>) -> Result<Response<v1::ListSessionsReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn stream(&self, request: Request<Streaming<ClientFrame>>) -> Result<Response<Self::StreamStream>, Status> {
        self.serve()?;
        let (frames, answers) = mpsc::unbounded_channel();
        let (store, mut asked) = (self.clone(), request.into_inner());
        World::real()
            .spawn("fake-session-stream", async move {
                while let Some(Ok(frame)) = asked.next().await {
                    let call = frame.call;
                    if let Some(body) = store.frame(frame, &frames) {
                        let _ = frames.send(Ok(ServerFrame { call, body: Some(body) }));
                    }
                }
            })
            .detach();
        Ok(Response::new(UnboundedReceiverStream::new(answers)))
    }

    type AttachStream = UnboundedReceiverStream<Result<ServerFrame, Status>>;

    async fn attach(&self, _: Request<v1::AttachRequest>) -> Result<Response<Self::AttachStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn keep_alive(&self, _: Request<v1::KeepAlive>) -> Result<Response<v1::KeptAlive>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn campaign(&self, _: Request<v1::Campaign>) -> Result<Response<v1::Campaigned>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn withdraw(&self, _: Request<v1::Withdraw>) -> Result<Response<v1::Withdrew>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

impl FakeStore {
    async fn pipelined(&self, request: v1::pipeline_call::Request) -> v1::pipeline_answer::Answer {
        use v1::pipeline_answer::Answer;
        use v1::pipeline_call::Request as Call;
        let answer = match request {
            Call::Put(put) => self.put(Request::new(put)).await.map(|reply| Answer::Put(reply.into_inner())),
            Call::Get(get) => self.get(Request::new(get)).await.map(|reply| Answer::Get(reply.into_inner())),
            Call::Delete(_) | Call::Range(_) | Call::Txn(_) => Err(refuse(not_applied(Kind::Unspecified, "not here"))),
        };
        answer.unwrap_or_else(|refused| Answer::Error(palisade_wire::status::detail(&refused).unwrap()))
    }
}

#[tonic::async_trait]
impl KvService for FakeStore {
    async fn put(&self, request: Request<v1::PutRequest>) -> Result<Response<v1::PutReply>, Status> {
        self.serve()?;
        let request = request.into_inner();
        self.say(Told::Put { key: request.key.clone(), request_id: request.request_id });
        let next = self.lock().next_puts.pop_front();
        if let Some(NextPut::Refuse(detail)) = next {
            return Err(refuse(detail));
        }
        let reply = {
            let mut state = self.lock();
            let header = state.header();
            let id = request.request_id.map(|id| (id.session, id.serial));
            let remembered = id.and_then(|id| state.answers.get(&id).copied());
            let version = remembered.unwrap_or_else(|| {
                let version = state.keys.get(&request.key).map_or(0, |(_, version)| *version) + 1;
                state.keys.insert(request.key, (request.value, version));
                version
            });
            state.answers.extend(id.map(|id| (id, version)));
            v1::PutReply { header: Some(header), version, ..v1::PutReply::default() }
        };
        match next {
            Some(NextPut::ApplyInSilence) => std::future::pending().await,
            Some(NextPut::Refuse(_)) | None => Ok(Response::new(reply)),
        }
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        self.serve()?;
        let key = request.into_inner().key;
        let mut state = self.lock();
        let header = Some(state.header());
        let kv = state.keys.get(&key).map(|(value, version)| v1::KeyValue {
            key: key.clone(),
            value: value.clone(),
            version: *version,
            ..Default::default()
        });
        Ok(Response::new(v1::GetReply { header, kv }))
    }

    async fn delete(&self, _: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn range(&self, _: Request<v1::RangeRequest>) -> Result<Response<v1::RangeReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn txn(&self, _: Request<v1::TxnRequest>) -> Result<Response<v1::TxnReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn compact(&self, _: Request<v1::CompactRequest>) -> Result<Response<v1::CompactReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type PipelineStream = UnboundedReceiverStream<Result<v1::PipelineAnswers, Status>>;

    /// Each call as the single request that it is, one answer in a message.
    async fn pipeline(
        &self,
        request: Request<Streaming<v1::PipelineCalls>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        let (answers, receive) = mpsc::unbounded_channel();
        let (store, mut messages) = (self.clone(), request.into_inner());
        World::real()
            .spawn("fake-pipeline", async move {
                while let Some(Ok(message)) = messages.next().await {
                    for v1::PipelineCall { call, request } in message.calls {
                        let (store, answers) = (store.clone(), answers.clone());
                        let answer = async move {
                            let answer = Some(store.pipelined(request.unwrap()).await);
                            let answers_to = v1::PipelineAnswers { answers: vec![v1::PipelineAnswer { call, answer }] };
                            let _ = answers.send(Ok(answers_to));
                        };
                        World::real().spawn("fake-call", answer).detach();
                    }
                }
            })
            .detach();
        Ok(Response::new(UnboundedReceiverStream::new(receive)))
    }
}

#[tonic::async_trait]
impl ElectionService for FakeStore {
    type ObserveStream = UnboundedReceiverStream<Result<v1::ObserveReply, Status>>;

    async fn leader(&self, _: Request<v1::LeaderRequest>) -> Result<Response<v1::LeaderReply>, Status> {
        self.serve()?;
        let mut state = self.lock();
        Ok(Response::new(v1::LeaderReply { header: Some(state.header()), leader: state.leader.clone() }))
    }

    async fn history(&self, _: Request<v1::HistoryRequest>) -> Result<Response<v1::HistoryReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list(&self, _: Request<v1::ListElectionsRequest>) -> Result<Response<v1::ListElectionsReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn observe(&self, _: Request<v1::ObserveRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        self.serve()?;
        let (send, receive) = mpsc::unbounded_channel();
        let mut changes = self.changes.subscribe();
        let first = {
            let mut state = self.lock();
            let kind = Some(Observed::State(observe_event::State { leader: state.leader.clone() }));
            v1::ObserveReply { header: Some(state.header()), events: vec![v1::ObserveEvent { kind }] }
        };
        let _ = send.send(Ok(first));
        World::real()
            .spawn("fake-observe", async move {
                while let Ok(change) = changes.recv().await {
                    if send.send(Ok(change)).is_err() {
                        return;
                    }
                }
            })
            .detach();
        Ok(Response::new(UnboundedReceiverStream::new(receive)))
    }

    async fn proclaim(&self, request: Request<v1::ProclaimRequest>) -> Result<Response<v1::ProclaimReply>, Status> {
        let request = request.into_inner();
        let value = request.value.unwrap_or_default();
        self.say(Told::Proclaim { address: value.address.clone(), request_id: request.request_id });
        let mut state = self.lock();
        let grant = state.leader.as_mut().filter(|it| it.token == request.token);
        let Some(grant) = grant else { return Err(refuse(not_applied(Kind::StaleToken, ""))) };
        grant.value = Some(value);
        let changed = Observed::ValueChanged(observe_event::ValueChanged { leader: Some(grant.clone()) });
        self.publish(&mut state, changed);
        Ok(Response::new(v1::ProclaimReply { header: Some(state.header()) }))
    }

    async fn resign(&self, request: Request<v1::ResignRequest>) -> Result<Response<v1::ResignReply>, Status> {
        self.serve()?;
        let request = request.into_inner();
        self.say(Told::Resign { token: request.token });
        let mut state = self.lock();
        let ended = state.leader.take_if(|it| it.token == request.token);
        if let Some(grant) = &ended {
            self.fill(&mut state, grant.token);
        }
        let (header, already) = (Some(state.header()), ended.is_none());
        Ok(Response::new(v1::ResignReply { header, already, requested: None }))
    }

    async fn transfer(&self, request: Request<v1::TransferRequest>) -> Result<Response<v1::TransferReply>, Status> {
        self.serve()?;
        let v1::TransferRequest { to, request_id, .. } = request.into_inner();
        self.say(Told::Transfer { to: to.clone(), request_id });
        let next = self.lock().next_puts.pop_front();
        if let Some(NextPut::Refuse(detail)) = next {
            return Err(refuse(detail));
        }
        let reply = {
            let mut state = self.lock();
            let id = request_id.map(|id| (id.session, id.serial));
            if !id.is_some_and(|id| state.answers.contains_key(&id)) {
                let at = state.queue.iter().position(|it| it.candidate_id == to);
                let Some(named) = at.and_then(|at| state.queue.remove(at)) else {
                    return Err(refuse(not_applied(Kind::CandidateNotFound, "")));
                };
                let previous = state.leader.take().map_or(0, |grant| grant.token);
                state.queue.push_front(named);
                self.fill(&mut state, previous);
            }
            state.answers.extend(id.map(|id| (id, 0)));
            v1::TransferReply { header: Some(state.header()), requested: None }
        };
        match next {
            Some(NextPut::ApplyInSilence) => std::future::pending().await,
            Some(NextPut::Refuse(_)) | None => Ok(Response::new(reply)),
        }
    }

    async fn withdraw(&self, _: Request<v1::WithdrawRequest>) -> Result<Response<v1::WithdrawReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
}
