//! The listening side: streams from other processes, plain gRPC, reflection and health on one port. Keeps true: what one
//! connection can make us keep is bounded; a connection that does not read its answers is not read from either.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use palisade_fence::{ClusterId, Token};
use palisade_planted::{self as planted, Bug};
use palisade_world::{Listener, Task, World, grpc};
use tokio::sync::{Notify, mpsc, watch};
use tonic::{Request, Response, Status, Streaming};

use super::frames::{answer_of, batch_of, frame_size, next_batch};
use super::{BATCH_BYTES, FRAME_OVERHEAD, VERSION};
use crate::inbound::{Cancel, Claim, Inbound, Payload, ReplyTo};
use crate::plain::Plain;
use crate::registry::Registry;
use crate::service::StartError;
use crate::v1::envelope_server::{Envelope, EnvelopeServer};
use crate::v1::{Call, Frame, Frames, Handshake, frame};
use crate::{ConnectError, InterfaceInfo, RpcError};

/// Unanswered asks of one stream; as many as its caller may have.
const MAX_IN_FLIGHT: usize = 65_536;

/// Answers that wait to be sent on one stream before we stop reading from it.
const UNREAD_ANSWERS: usize = 8192;

/// How long connections may take to end when the service is closed.
const CLOSE: Duration = Duration::from_secs(1);

/// A listening server.
pub(crate) struct Server {
    closing: watch::Sender<Closing>,
    task: Task<()>,
    world: World,
}

#[derive(Clone, Copy, PartialEq)]
enum Closing {
    No,
    Yes,
}

impl Server {
    pub(crate) async fn start(
        listener: Listener,
        registry: Arc<Registry>,
        interfaces: &[&'static InterfaceInfo],
        max_message: usize,
    ) -> Result<Server, StartError> {
        let world = registry.world.clone();
        let (closing, closed) = watch::channel(Closing::No);
        let limit = max_message + BATCH_BYTES + FRAME_OVERHEAD;
        let streams = Streams { registry: registry.clone(), max_message, closing: closed.clone() };
        let streams = EnvelopeServer::new(streams).max_decoding_message_size(limit).max_encoding_message_size(limit);

        let (health_reporter, health) = tonic_health::server::health_reporter();
        let mut reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        for interface in interfaces {
            health_reporter.set_service_status(interface.name, tonic_health::ServingStatus::Serving).await;
            reflection = reflection.register_encoded_file_descriptor_set(interface.descriptors);
        }
        let reflection = reflection.build_v1().map_err(|error| StartError::Descriptors(error.to_string()))?;

        let routes = tonic::service::Routes::new(streams).add_service(health).add_service(reflection);
        // Whatever has no service of its own is a gateway's method, or nothing.
        let routes = routes.into_axum_router().fallback_service(Plain::new(registry, max_message));
        let mut shutdown = closed;
        let shutdown = async move {
            // An error means that the service was dropped: the same.
            let _ = shutdown.wait_for(|closing| *closing == Closing::Yes).await;
        };
        let serving = grpc::server(&world)
            .add_routes(routes.into())
            .serve_with_incoming_shutdown(grpc::incoming(listener), shutdown);
        let task = world.spawn("rpc server", async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the RPC server ended");
            }
        });
        Ok(Server { closing, task, world })
    }

    /// Ends all streams at once, then waits a little for plain calls.
    pub(crate) async fn close(self) {
        self.closing.send_replace(Closing::Yes);
        if self.world.timeout(CLOSE, self.task).await.is_none() {
            tracing::warn!("connections were still open when the RPC server was closed");
        }
    }
}

/// Accepts the streams of other processes.
struct Streams {
    registry: Arc<Registry>,
    max_message: usize,
    closing: watch::Receiver<Closing>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<Frames, Status>> + Send>>;

#[tonic::async_trait]
impl Envelope for Streams {
    type OpenStream = Answers;

    async fn open(&self, request: Request<Streaming<Frames>>) -> Result<Response<Answers>, Status> {
        let (answers, queued) = mpsc::unbounded_channel();
        let outbox = Arc::new(Outbox { answers, unread: AtomicUsize::new(0), read: Notify::new() });
        let stream = Peer {
            registry: self.registry.clone(),
            max_message: self.max_message,
            outbox: outbox.clone(),
            asks: Arc::default(),
            greeted: Greeted::No,
        };
        let reader = self.registry.world.spawn("rpc stream reader", stream.read(request.into_inner()));
        Ok(Response::new(Box::pin(outgoing(outbox, queued, self.closing.clone(), reader))))
    }
}

/// Answers on their way back. The channel itself has no bound, so that an endpoint never waits for a slow caller; what may be
/// in it has: see `UNREAD_ANSWERS` and `MAX_IN_FLIGHT`.
struct Outbox {
    answers: mpsc::UnboundedSender<Frame>,
    unread: AtomicUsize,
    read: Notify,
}

impl Outbox {
    fn push(&self, frame: Frame) {
        self.unread.fetch_add(1, Ordering::AcqRel);
        // The stream has ended: the caller knows already.
        let _ = self.answers.send(frame);
    }

    async fn has_room(&self) {
        loop {
            let read = self.read.notified();
            if self.unread.load(Ordering::Acquire) < UNREAD_ANSWERS {
                return;
            }
            read.await;
        }
    }
}

/// Answers in batches, until the caller is gone or the service is closed. Owns the reader: they end together.
fn outgoing(
    outbox: Arc<Outbox>,
    queued: mpsc::UnboundedReceiver<Frame>,
    closing: watch::Receiver<Closing>,
    reader: Task<()>,
) -> impl Stream<Item = Result<Frames, Status>> + Send {
    stream::unfold(
        (outbox, queued, None, closing, reader),
        |(outbox, mut queued, mut spare, mut closing, reader)| async {
            let frames = tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing == Closing::Yes) => None,
                frames = next_batch(&mut queued, &mut spare, frame_size) => frames,
            }?;
            outbox.unread.fetch_sub(frames.len(), Ordering::AcqRel);
            outbox.read.notify_one();
            Some((Ok(batch_of(frames)), (outbox, queued, spare, closing, reader)))
        },
    )
}

/// One process that calls us.
struct Peer {
    registry: Arc<Registry>,
    max_message: usize,
    outbox: Arc<Outbox>,
    /// Asks that have not been answered, to be cancelled by id.
    asks: Arc<Mutex<BTreeMap<u64, Arc<Cancel>>>>,
    greeted: Greeted,
}

#[derive(PartialEq)]
enum Greeted {
    No,
    Yes,
}

impl Drop for Peer {
    /// The caller is gone, by its own end or with the stream of our answers: nobody wants them any more.
    fn drop(&mut self) {
        let asks = std::mem::take(&mut *self.asks());
        for cancel in asks.into_values() {
            cancel.cancel();
        }
    }
}

impl Peer {
    /// Until the stream ends.
    async fn read(mut self, mut frames: Streaming<Frames>) {
        loop {
            self.outbox.has_room().await;
            // An error is the caller's end or a broken connection: the same to us.
            let Ok(Some(Frames { frames })) = frames.message().await else { break };
            for frame in frames {
                self.on_frame(frame);
            }
        }
    }

    fn on_frame(&mut self, frame: Frame) {
        match frame.kind {
            Some(frame::Kind::Handshake(handshake)) => self.on_handshake(&handshake),
            Some(frame::Kind::Call(call)) if self.greeted == Greeted::Yes => {
                if call.tell && planted::is(Bug::TellTwice) {
                    self.on_call(call.clone());
                }
                self.on_call(call);
            }
            Some(frame::Kind::Call(call)) => {
                let why = "a call before the handshake".to_owned();
                self.outbox.push(answer_of(call.id, &call.method, Err(RpcError::Invalid { why })));
            }
            Some(frame::Kind::Cancel(cancel)) => {
                if let Some(cancel) = self.asks().remove(&cancel.id) {
                    cancel.cancel();
                }
            }
            // An answer to nothing, or a frame of a later version.
            Some(frame::Kind::Answer(_)) | None => {}
        }
    }

    fn on_handshake(&mut self, handshake: &Handshake) {
        let checked = if handshake.version != VERSION {
            let why = format!("version {} of the envelope, this side speaks {VERSION}", handshake.version);
            Err(RpcError::Invalid { why })
        } else {
            self.greeted = Greeted::Yes;
            self.served(handshake)
        };
        if handshake.id != 0 || checked.is_err() {
            let empty = Payload::Encoded(bytes::Bytes::new());
            self.outbox.push(answer_of(handshake.id, "", checked.map(|()| empty)));
        }
    }

    fn served(&self, handshake: &Handshake) -> Result<(), RpcError> {
        if handshake.endpoint.is_empty() {
            return Ok(());
        }
        self.registry.handshake(&handshake.endpoint, &handshake.interface).map_err(|error| match error {
            ConnectError::NoSuchEndpoint { .. } => RpcError::NoSuchEndpoint { endpoint: handshake.endpoint.clone() },
            ConnectError::Handshake { why, .. } => RpcError::Invalid { why },
            other => RpcError::Invalid { why: other.to_string() },
        })
    }

    fn on_call(&self, call: Call) {
        let now = self.registry.world.now();
        let deadline = (call.deadline_ms > 0).then(|| now.saturating_add(Duration::from_millis(call.deadline_ms)));
        let claim = Claim {
            cluster: (call.cluster != 0).then_some(ClusterId(call.cluster)),
            election: Arc::from(call.election.as_str()),
            token: Token::from_wire(call.token),
        };
        let (cancel, reply) = if call.tell {
            (None, self.reply_to_tell(&call))
        } else {
            match self.reply_to_ask(&call) {
                Some((cancel, reply)) => (Some(cancel), reply),
                None => {
                    let full = RpcError::Overloaded { limit: MAX_IN_FLIGHT as u64 };
                    return self.outbox.push(answer_of(call.id, &call.method, Err(full)));
                }
            }
        };
        let inbound = Inbound { claim, deadline, cancel, payload: Payload::Encoded(call.payload), reply };
        self.registry.deliver(&call.endpoint, &call.interface, &call.method, inbound);
    }

    /// Only a refusal is reported.
    fn reply_to_tell(&self, call: &Call) -> ReplyTo {
        let (outbox, id, method) = (self.outbox.clone(), call.id, call.method.clone());
        ReplyTo::new(Arc::from(call.endpoint.as_str()), Some(self.max_message), move |result| {
            if result.is_err() {
                outbox.push(answer_of(id, &method, result));
            }
        })
    }

    fn reply_to_ask(&self, call: &Call) -> Option<(Arc<Cancel>, ReplyTo)> {
        let cancel = Arc::new(Cancel::default());
        {
            let mut asks = self.asks();
            if asks.len() >= MAX_IN_FLIGHT {
                return None;
            }
            asks.insert(call.id, cancel.clone());
        }
        let (outbox, asks, id, method) = (self.outbox.clone(), self.asks.clone(), call.id, call.method.clone());
        let reply = ReplyTo::new(Arc::from(call.endpoint.as_str()), Some(self.max_message), move |result| {
            asks.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            outbox.push(answer_of(id, &method, result));
        });
        Some((cancel, reply))
    }

    fn asks(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Cancel>>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
