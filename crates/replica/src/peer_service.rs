//! What other nodes call.

use std::marker::PhantomData;
use std::pin::Pin;

use futures_util::Stream;
use palisade_wire::replica::v1::replica_service_server::ReplicaService;
use palisade_wire::replica::v1::{
    AppendReply, AppendRequest, HelloReply, HelloRequest, SnapshotChunk, SnapshotReply, TransferLeaderReply,
    TransferLeaderRequest, VoteReply, VoteRequest,
};
use tonic::{Request, Response, Status, Streaming};

use crate::Machine;

/// The service that other nodes call.
pub struct PeerService<M: Machine>(PhantomData<fn() -> M>);

#[tonic::async_trait]
impl<M: Machine> ReplicaService for PeerService<M> {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<AppendReply, Status>> + Send>>;

    async fn append(&self, _: Request<Streaming<AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        panic!("not yet")
    }
    async fn heartbeat(&self, _: Request<AppendRequest>) -> Result<Response<AppendReply>, Status> {
        panic!("not yet")
    }
    async fn vote(&self, _: Request<VoteRequest>) -> Result<Response<VoteReply>, Status> {
        panic!("not yet")
    }
    async fn pre_vote(&self, _: Request<VoteRequest>) -> Result<Response<VoteReply>, Status> {
        panic!("not yet")
    }
    async fn install_snapshot(&self, _: Request<Streaming<SnapshotChunk>>) -> Result<Response<SnapshotReply>, Status> {
        panic!("not yet")
    }
    async fn transfer_leader(
        &self,
        _: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderReply>, Status> {
        panic!("not yet")
    }
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        panic!("not yet")
    }
}
