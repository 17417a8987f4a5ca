//! The listening side: streams from other processes, plain gRPC, reflection and health on one port.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use palisade_world::{Listener, Task, World, grpc};
use prost::bytes::Bytes;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::codec::BytesCodec;
use super::outbox::Outbox;
use super::peer::Peer;
use super::{BATCH_BYTES, FRAME_OVERHEAD};
use crate::InterfaceInfo;
use crate::plain::Plain;
use crate::registry::Registry;
use crate::service::StartError;

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
        let streams = Streams { registry: registry.clone(), max_message, closing: closed.clone() };

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

/// Accepts the streams of other processes: `palisade.rpc.v1.Envelope` without decoding whole batches.
#[derive(Clone)]
struct Streams {
    registry: Arc<Registry>,
    max_message: usize,
    closing: watch::Receiver<Closing>,
}

impl tonic::server::NamedService for Streams {
    const NAME: &'static str = "palisade.rpc.v1.Envelope";
}

impl<B> tower::Service<http::Request<B>> for Streams
where
    B: tonic::transport::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let streams = self.clone();
        Box::pin(async move {
            if request.uri().path() != super::PATH {
                return Ok(Status::unimplemented("there is no such method").into_http());
            }
            let limit = streams.max_message + BATCH_BYTES + FRAME_OVERHEAD;
            let mut grpc =
                tonic::server::Grpc::new(BytesCodec).max_decoding_message_size(limit).max_encoding_message_size(limit);
            Ok(grpc.streaming(streams, request).await)
        })
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl tonic::server::StreamingService<Bytes> for Streams {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = std::future::Ready<Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let outbox = Arc::new(Outbox::default());
        let peer = Peer::new(self.registry.clone(), self.max_message, outbox.clone());
        let reader = self.registry.world.spawn("rpc stream reader", peer.read(request.into_inner()));
        let answers: Answers = Box::pin(outgoing(outbox, self.closing.clone(), reader));
        std::future::ready(Ok(Response::new(answers)))
    }
}

/// Answers in batches, until the caller is gone or the service is closed. Owns the reader: they end together.
fn outgoing(
    outbox: Arc<Outbox>,
    closing: watch::Receiver<Closing>,
    reader: Task<()>,
) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    let state = (Ended(outbox), closing, reader);
    stream::unfold(state, |(outbox, mut closing, reader)| async {
        let batch = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing == Closing::Yes) => None,
            batch = outbox.0.next() => batch,
        }?;
        Some((Ok(batch), (outbox, closing, reader)))
    })
}

/// Answers that come after the stream's end are dropped, not gathered.
struct Ended(Arc<Outbox>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
    }
}
