//! The gRPC face of the sessions: a stream begins, or is refused with a hint.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_liveness::StreamId;
use palisade_wire::coord::v1::ClientFrame;
use palisade_wire::coord::v1::session_service_server::SessionService;
use palisade_wire::status;
use palisade_world::World;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Response, Status, Streaming};

use super::Entrance;
use super::outbox::{OutboxStream, node_stops, outbox};
use super::reader::{Input, Reader};

/// The session service of one node.
pub(crate) struct SessionStreams {
    inputs: mpsc::Sender<Input>,
    entrance: watch::Receiver<Entrance>,
    ttl_ms: RangeInclusive<u64>,
    /// The last one given out.
    last_stream: AtomicU64,
    world: World,
}

impl SessionStreams {
    pub(super) fn new(
        inputs: mpsc::Sender<Input>,
        entrance: watch::Receiver<Entrance>,
        ttl_ms: RangeInclusive<u64>,
        world: World,
    ) -> SessionStreams {
        SessionStreams { inputs, entrance, ttl_ms, last_stream: AtomicU64::new(0), world }
    }
}

#[tonic::async_trait]
impl SessionService for SessionStreams {
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
}
