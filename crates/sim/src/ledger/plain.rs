//! A message as plain gRPC, with its fence in metadata: what a program in any language sends.

use std::time::Duration;

use palisade_fence::Fence;
use palisade_rpc::RpcGateway;
use palisade_world::World;
use prost::bytes::{Buf, BufMut, Bytes};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::proto::LedgerGateway;
use super::{Message, Reply};

/// Sends a message and waits for at most `limit`.
pub(crate) async fn send(world: &World, to: &Channel, fence: &Fence, message: Message, limit: Duration) -> Reply {
    match world.timeout(limit, unary(to, fence, message, limit)).await {
        Some(Ok(answer)) => message.answered(&answer).map_or(Reply::Unknown, Reply::Answered),
        Some(Err(status)) => reply_of(&status),
        None => Reply::Unknown,
    }
}

async fn unary(to: &Channel, fence: &Fence, message: Message, limit: Duration) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(to.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = format!("/{}/{}", LedgerGateway::INTERFACE.name, message.method.name());
    let path = path.parse().expect("names of services and methods are paths");
    let mut request = Request::new(Bytes::from(message.request()));
    request.set_timeout(limit);
    let metadata = request.metadata_mut();
    let ascii = |text: &str| MetadataValue::try_from(text).expect("numbers and our own names are ASCII");
    metadata.insert("palisade-election", ascii(&fence.election));
    metadata.insert("palisade-token", ascii(&fence.token.to_string()));
    grpc.unary(request, path, BytesCodec).await.map(tonic::Response::into_inner)
}

fn reply_of(status: &Status) -> Reply {
    let text = |name: &str| status.metadata().get(name).and_then(|value| value.to_str().ok());
    match (text("palisade-outcome"), text("palisade-fence")) {
        (Some("not_handled"), Some("stale")) => Reply::Stale,
        (Some("not_handled"), _) => Reply::NotHandled,
        (Some("unknown"), Some("stale")) => Reply::Superseded,
        // Also without a word of the endpoint: a connection that broke.
        _ => Reply::Unknown,
    }
}

/// Hands messages through without looking inside.
#[derive(Clone, Copy, Default)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = BytesCodec;
    type Decoder = BytesCodec;

    fn encoder(&mut self) -> BytesCodec {
        BytesCodec
    }

    fn decoder(&mut self) -> BytesCodec {
        BytesCodec
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
