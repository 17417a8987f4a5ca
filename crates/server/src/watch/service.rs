//! Watches over gRPC: checks a request, begins the stream.

use std::pin::Pin;

use futures_util::Stream;
use palisade_wire::coord::v1::watch_service_server::WatchService;
use palisade_wire::coord::v1::{WatchReply, WatchRequest};
use palisade_wire::{convert, status};
use tonic::{Request, Response, Status};

use super::room::Room;
use super::stream;
use crate::api::Api;

/// The service.
pub(crate) struct Watches {
    pub(crate) api: Api,
    pub(crate) room: Room,
}

#[tonic::async_trait]
impl WatchService for Watches {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchReply, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watch = convert::watch(request.into_inner()).map_err(status::refuse)?;
        Ok(Response::new(Box::pin(stream::watch(&self.api, &self.room, watch).await?)))
    }
}
