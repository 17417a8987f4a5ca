//! The gRPC face of the sessions.

use std::pin::Pin;

use futures_util::Stream;
use palisade_wire::coord::v1::session_service_server::SessionService;
use palisade_wire::coord::v1::{ClientFrame, ServerFrame};
use tonic::{Request, Response, Status, Streaming};

/// The session service.
pub(crate) struct SessionStreams {}

#[tonic::async_trait]
impl SessionService for SessionStreams {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<ServerFrame, Status>> + Send>>;

    async fn stream(&self, _: Request<Streaming<ClientFrame>>) -> Result<Response<Self::StreamStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }
}
