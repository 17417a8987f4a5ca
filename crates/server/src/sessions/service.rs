//! The gRPC face of the sessions: a stream begins, or is refused with a hint.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_liveness::StreamId;
use palisade_wire::coord::v1::session_service_server::SessionService;
use palisade_wire::coord::v1::{
    ClientFrame, CloseSessionReply, CloseSessionRequest, ListSessionsReply, ListSessionsRequest,
};
use palisade_wire::status;
use palisade_world::World;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Response, Status, Streaming};

use super::backend::SessionBackend;
use super::outbox::{OutboxStream, node_stops, outbox};
use super::reader::{Input, Reader};
use super::{Entrance, unary};

/// The session service of one node.
pub(crate) struct SessionStreams<B> {
    backend: Arc<B>,
    inputs: mpsc::Sender<Input>,
    entrance: watch::Receiver<Entrance>,
    ttl_ms: RangeInclusive<u64>,
    /// The last one given out.
    last_stream: AtomicU64,
    world: World,
}

impl<B: SessionBackend> SessionStreams<B> {
    pub(super) fn new(
        backend: Arc<B>,
        inputs: mpsc::Sender<Input>,
        entrance: watch::Receiver<Entrance>,
        ttl_ms: RangeInclusive<u64>,
        world: World,
    ) -> SessionStreams<B> {
        SessionStreams { backend, inputs, entrance, ttl_ms, last_stream: AtomicU64::new(0), world }
    }
}

#[tonic::async_trait]
impl<B: SessionBackend> SessionService for SessionStreams<B> {
    type StreamStream = OutboxStream;

    async fn stream(&self, request: Request<Streaming<ClientFrame>>) -> Result<Response<OutboxStream>, Status> {
        if let Entrance::Shut(why) = &*self.entrance.borrow() {
            return Err(status::refuse(why.clone()));
        }
        let stream = StreamId(self.last_stream.fetch_add(1, Ordering::Relaxed) + 1);
        let (outbox, answers, gone) = outbox();
        let (stop, stopped) = oneshot::channel();
        self.inputs.send(Input::Began { stream, outbox, stop }).await.map_err(|_| node_stops())?;
        let reader =
            Reader { stream, inputs: self.inputs.clone(), ttl_ms: self.ttl_ms.clone(), world: self.world.clone() };
        // It ends with the stream, from either side.
        self.world.spawn("session stream", reader.run(request.into_inner(), gone, stopped)).detach();
        Ok(Response::new(answers))
    }

    async fn close(&self, request: Request<CloseSessionRequest>) -> Result<Response<CloseSessionReply>, Status> {
        unary::close(&*self.backend, &self.world, request.into_inner()).await.map(Response::new)
    }

    async fn list(&self, request: Request<ListSessionsRequest>) -> Result<Response<ListSessionsReply>, Status> {
        unary::list(&*self.backend, &request.into_inner()).await.map(Response::new)
    }
}
