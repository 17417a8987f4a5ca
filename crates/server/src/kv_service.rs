//! Keys over gRPC: checks a request, proposes or reads, answers. No fence is checked here: only applying can.

use palisade_coord_core::{KeyReply, Reply};
use palisade_wire::coord::v1::kv_service_server::KvService;
use palisade_wire::coord::v1::{DeleteReply, DeleteRequest, GetReply, GetRequest, PutReply, PutRequest};
use palisade_wire::{convert, status};
use tonic::{Request, Response, Status};

use crate::api::{Api, wrong_reply};

/// The service.
pub(crate) struct Kv {
    pub(crate) api: Api,
}

#[tonic::async_trait]
impl KvService for Kv {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutReply>, Status> {
        let command = convert::put(request.into_inner(), self.api.unix_ms());
        match self.api.apply(command).await? {
            (header, Reply::Keys(KeyReply::Put { version, .. })) => {
                Ok(Response::new(PutReply { header: Some(header), version }))
            }
            (_, other) => Err(wrong_reply(&other)),
        }
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let key = convert::get(request.into_inner()).map_err(status::refuse)?;
        let reply = self
            .api
            .read(|state| GetReply {
                header: Some(convert::header(state)),
                kv: state.get(&key).map(|kv| convert::key_value(&key, kv)),
            })
            .await?;
        Ok(Response::new(reply))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteReply>, Status> {
        let command = convert::delete(request.into_inner(), self.api.unix_ms());
        match self.api.apply(command).await? {
            (header, Reply::Keys(KeyReply::Deleted { deleted, .. })) => {
                Ok(Response::new(DeleteReply { header: Some(header), deleted }))
            }
            (_, other) => Err(wrong_reply(&other)),
        }
    }
}
