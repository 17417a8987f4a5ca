//! The gRPC face of the sessions: a stream begins, is relayed to the store leader, or is refused with a hint; and the same without
//! frames, for clients that only make calls. It decides nothing about a session.

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{once, pending};
use futures_util::{Stream, StreamExt};
use palisade_coord_core::SessionId;
use palisade_liveness::StreamId;
use palisade_wire::coord::v1::attach_request::How;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::session_service_server::SessionService;
use palisade_wire::coord::v1::{
    AttachRequest, Campaign, Campaigned, ClientFrame, CloseSessionReply, CloseSessionRequest, ErrorDetail, KeepAlive,
    KeptAlive, ListSessionsReply, ListSessionsRequest, ServerFrame, Withdraw, Withdrew, client_frame, server_frame,
};
use palisade_wire::metadata;
use palisade_wire::status::{self, unknown};
use palisade_wire::{convert, limits};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::backend::SessionBackend;
use super::frames::admit;
use super::outbox::{node_stops, outbox};
use super::reader::{By, Input, Reader};
use super::relay::relay;
use super::{Entrance, SessionSettings, unary};
use crate::forward::{Forwarder, Route, asked};
use crate::metrics::NodeMetrics;

/// The longest that a call without a deadline of its own waits. A renewal that is held while an end is in flight has no bound
/// by itself.
const ANSWER: Duration = Duration::from_secs(10);

/// What a client reads.
type Frames = Pin<Box<dyn Stream<Item = Result<ServerFrame, Status>> + Send>>;

/// The session service of one node.
pub(crate) struct SessionStreams<B> {
    backend: Arc<B>,
    inputs: mpsc::Sender<Input>,
    entrance: watch::Receiver<Entrance>,
    ttl_ms: RangeInclusive<u64>,
    metrics: Arc<NodeMetrics>,
    /// The last one given out.
    last_stream: AtomicU64,
    forwarder: Forwarder,
}

impl<B: SessionBackend> SessionStreams<B> {
    pub(super) fn new(
        backend: Arc<B>,
        inputs: mpsc::Sender<Input>,
        entrance: watch::Receiver<Entrance>,
        settings: &SessionSettings,
        forwarder: Forwarder,
    ) -> SessionStreams<B> {
        let (ttl_ms, metrics) = (settings.ttl_ms(), Arc::clone(&settings.metrics));
        SessionStreams { backend, inputs, entrance, ttl_ms, metrics, last_stream: AtomicU64::new(0), forwarder }
    }

    /// A stream begins, here or at the store leader.
    async fn begin(
        &self,
        metadata: &MetadataMap,
        frames: impl Stream<Item = Result<ClientFrame, Status>> + Send + Unpin + 'static,
    ) -> Result<Response<Frames>, Status> {
        if let Route::There(leader) = self.forwarder.route(asked(metadata.as_ref())) {
            let relayed = relay(&self.forwarder, leader, frames, self.inputs.clone()).await?;
            return Ok(relayed.map(|answers| -> Frames { Box::pin(answers) }));
        }
        if let Entrance::Shut(why) = &*self.entrance.borrow() {
            return Err(status::refuse(why.clone()));
        }
        let stream = StreamId(self.last_stream.fetch_add(1, Ordering::Relaxed) + 1);
        let (outbox, answers, gone) = outbox(&self.forwarder.world);
        let (stop, stopped) = oneshot::channel();
        self.inputs.send(Input::Began { stream, outbox, stop }).await.map_err(|_| node_stops())?;
        let by = if metadata.contains_key(metadata::RELAY) { By::Relay } else { By::Client };
        let world = self.forwarder.world.clone();
        let reader = Reader { stream, inputs: self.inputs.clone(), by, ttl_ms: self.ttl_ms.clone(), world };
        // It ends with the stream, from either side.
        self.forwarder.world.spawn("session stream", reader.run(frames, gone, stopped)).detach();
        let metrics = Arc::clone(&self.metrics);
        let counted = answers.inspect(move |frame| frame.iter().for_each(|frame| metrics.told(frame)));
        Ok(Response::new(Box::pin(counted)))
    }

    /// A call about one session: what its stream would have been answered.
    async fn call(&self, session: u64, body: client_frame::Body) -> Result<server_frame::Body, ErrorDetail> {
        let frame = ClientFrame { call: 0, body: Some(body) };
        let request = admit(frame, self.ttl_ms.clone(), self.forwarder.world.unix_ms())?;
        let (answer, answered) = oneshot::channel();
        let input = Input::Call { session: SessionId(session), request, answer };
        let asked = async {
            self.inputs.send(input).await.ok()?;
            answered.await.ok()
        };
        match self.forwarder.world.timeout(ANSWER, asked).await {
            Some(Some(ServerFrame { body: Some(server_frame::Body::Refused(refused)), .. })) => {
                Err(refused.error.unwrap_or_default())
            }
            Some(Some(ServerFrame { body: Some(body), .. })) => Ok(body),
            Some(None | Some(ServerFrame { body: None, .. })) => {
                Err(unknown(Kind::LostLeadership, "the session's stream ended: attach it again"))
            }
            None => Err(unknown(Kind::LostLeadership, format!("no answer within {ANSWER:?}"))),
        }
    }
}

#[tonic::async_trait]
impl<B: SessionBackend> SessionService for SessionStreams<B> {
    type StreamStream = Frames;

    async fn stream(&self, request: Request<Streaming<ClientFrame>>) -> Result<Response<Frames>, Status> {
        let (metadata, _, frames) = request.into_parts();
        self.begin(&metadata, frames).await
    }

    type AttachStream = Frames;

    async fn attach(&self, request: Request<AttachRequest>) -> Result<Response<Frames>, Status> {
        let (metadata, _, request) = request.into_parts();
        let body = match request.how {
            Some(How::Open(open)) => client_frame::Body::Open(open),
            Some(How::Attach(attach)) => client_frame::Body::Attach(attach),
            None => return Err(status::refuse(convert::invalid("how", "none", "open or attach"))),
        };
        // The one frame of a client that then only listens: its end is gone when it listens no more.
        let frame = ClientFrame { call: 1, body: Some(body) };
        let frames = once(std::future::ready(Ok(frame))).chain(pending());
        let (metadata, mut answers, extensions) = self.begin(&metadata, frames).await?.into_parts();
        let limit = self.forwarder.world.timeout(ANSWER, answers.next());
        let first = match limit.await {
            Some(Some(Ok(ServerFrame { body: Some(server_frame::Body::Refused(refused)), .. }))) => {
                return Err(status::refuse(refused.error.unwrap_or_default()));
            }
            Some(Some(first)) => first?,
            Some(None) => return Err(node_stops()),
            None => {
                let late = unknown(Kind::LostLeadership, format!("no answer within {ANSWER:?}"));
                return Err(status::refuse(late));
            }
        };
        let all: Frames = Box::pin(once(std::future::ready(Ok(first))).chain(answers));
        Ok(Response::from_parts(metadata, all, extensions))
    }

    async fn keep_alive(&self, request: Request<KeepAlive>) -> Result<Response<KeptAlive>, Status> {
        let all = convert::keep_alive(request.into_inner()).map_err(status::refuse)?;
        debug_assert!(all.len() <= limits::KEEP_ALIVE_SESSIONS, "it was checked");
        let calls = all.into_iter().map(|session| {
            let one = client_frame::Body::KeepAlive(KeepAlive { sessions: vec![session.get()] });
            self.call(session.get(), one)
        });
        let (mut kept, mut first) = (KeptAlive::default(), None);
        for answer in join_all(calls).await {
            match answer {
                Ok(server_frame::Body::KeptAlive(one)) => {
                    kept.sessions.extend(one.sessions);
                    kept.not_renewed.extend(one.not_renewed);
                }
                Ok(other) => return Err(Status::internal(format!("a keep-alive was answered with {other:?}"))),
                Err(why) => {
                    first.get_or_insert(why);
                }
            }
        }
        match first {
            Some(why) if kept == KeptAlive::default() => Err(status::refuse(why)),
            Some(_) | None => Ok(Response::new(kept)),
        }
    }

    async fn campaign(&self, request: Request<Campaign>) -> Result<Response<Campaigned>, Status> {
        let campaign = request.into_inner();
        let answer = self.call(campaign.session, client_frame::Body::Campaign(campaign)).await;
        match answer.map_err(status::refuse)? {
            server_frame::Body::Campaigned(campaigned) => Ok(Response::new(campaigned)),
            other => Err(Status::internal(format!("a campaign was answered with {other:?}"))),
        }
    }

    async fn withdraw(&self, request: Request<Withdraw>) -> Result<Response<Withdrew>, Status> {
        let withdraw = request.into_inner();
        let answer = self.call(withdraw.session, client_frame::Body::Withdraw(withdraw)).await;
        match answer.map_err(status::refuse)? {
            server_frame::Body::Withdrew(withdrew) => Ok(Response::new(withdrew)),
            other => Err(Status::internal(format!("a withdrawal was answered with {other:?}"))),
        }
    }

    async fn close(&self, request: Request<CloseSessionRequest>) -> Result<Response<CloseSessionReply>, Status> {
        unary::close(&*self.backend, &self.forwarder.world, request.into_inner()).await.map(Response::new)
    }

    async fn list(&self, request: Request<ListSessionsRequest>) -> Result<Response<ListSessionsReply>, Status> {
        unary::list(&*self.backend, &request.into_inner()).await.map(Response::new)
    }
}
