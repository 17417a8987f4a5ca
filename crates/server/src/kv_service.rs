//! Keys over gRPC: checks a request, proposes or reads, answers. No fence is checked here: only applying can.

use palisade_coord_core::Reply;
use palisade_wire::coord::v1::kv_service_server::KvService;
use palisade_wire::coord::v1::{
    CompactReply, CompactRequest, DeleteReply, DeleteRequest, GetReply, GetRequest, PipelineAnswers, PipelineCalls,
    PutReply, PutRequest, RangeReply, RangeRequest, TxnReply, TxnRequest,
};
use palisade_wire::{convert, status};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::api::{Api, Fresh, wrong_reply};
use crate::key_replies::{delete_reply, put_reply};
use crate::pipeline;

/// The service.
pub(crate) struct Kv {
    pub(crate) api: Api,
}

#[tonic::async_trait]
impl KvService for Kv {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutReply>, Status> {
        let request = request.into_inner();
        let key = if request.show_previous { request.key.clone() } else { Vec::new() };
        let command = self.api.write(request, convert::put);
        match self.api.apply(command).await? {
            (header, Reply::Keys(reply)) => put_reply(header, &key, reply).map(Response::new).ok_or_else(wrong_keys),
            (_, other) => Err(wrong_reply(&other)),
        }
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let request = request.into_inner();
        let fresh = Fresh::of(request.serializable);
        let key = convert::get(request).map_err(status::refuse)?;
        let reply = self
            .api
            .read_as(fresh, |state| GetReply {
                header: Some(convert::header(state)),
                kv: state.get(&key).map(|kv| convert::key_value(&key, kv)),
            })
            .await?;
        Ok(Response::new(reply))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteReply>, Status> {
        let command = self.api.write(request.into_inner(), convert::delete);
        match self.api.apply(command).await? {
            (header, Reply::Keys(reply)) => delete_reply(header, reply).map(Response::new).ok_or_else(wrong_keys),
            (_, other) => Err(wrong_reply(&other)),
        }
    }

    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeReply>, Status> {
        let request = request.into_inner();
        let fresh = Fresh::of(request.serializable);
        let read = convert::range(request).map_err(status::refuse)?;
        let reply = self
            .api
            .read_as(fresh, |state| {
                let header = convert::header(state);
                (!state.is_long(&read)).then(|| match state.read(&read) {
                    Ok(findings) => {
                        Ok(RangeReply { header: Some(header), result: Some(convert::range_result(&findings)) })
                    }
                    Err(why) => Err(convert::refusal(&why, header)),
                })
            })
            .await?;
        let reply = match reply {
            Some(reply) => reply,
            None => self.api.long_reads.begin(&self.api, read).await,
        };
        reply.map(Response::new).map_err(status::refuse)
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnReply>, Status> {
        let command = self.api.write(request.into_inner(), convert::txn);
        let (header, reply) = self.api.apply(command).await?;
        let result = match &reply {
            Reply::Keys(keys) => convert::txn_result(keys).ok_or_else(|| wrong_reply(&reply))?,
            other => return Err(wrong_reply(other)),
        };
        Ok(Response::new(TxnReply { header: Some(header), result: Some(result) }))
    }

    async fn compact(&self, request: Request<CompactRequest>) -> Result<Response<CompactReply>, Status> {
        let command = convert::compact(request.into_inner(), self.api.unix_ms());
        match self.api.apply(command).await? {
            (header, Reply::Compacted) => Ok(Response::new(CompactReply { header: Some(header) })),
            (_, other) => Err(wrong_reply(&other)),
        }
    }
    type PipelineStream = std::pin::Pin<Box<dyn Stream<Item = Result<PipelineAnswers, Status>> + Send>>;

    async fn pipeline(
        &self,
        request: Request<Streaming<PipelineCalls>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        Ok(Response::new(Box::pin(pipeline::answers(self.api.clone(), request.into_inner()))))
    }
}

/// As [`wrong_reply`], of an operation on keys.
fn wrong_keys() -> Status {
    Status::internal("the state machine answered with another operation's reply")
}
