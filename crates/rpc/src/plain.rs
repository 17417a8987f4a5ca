//! The gateways of this process for any gRPC client: the same dispatch, the same table, with the fence in metadata. One service
//! for all of them, so that a method cannot be reached by one form and forgotten in the other.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use palisade_fence::metadata::{self, Claimed};
use tokio::sync::oneshot;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status};

use crate::RpcError;
use crate::gateway::{ASK, CancelOnDrop};
use crate::inbound::{Cancel, Claim, Inbound, Payload, ReplyTo};
use crate::registry::Registry;

/// Which endpoint, where several serve the interface.
const ENDPOINT: &str = "palisade-endpoint";
/// Of an application's refusal: its own number.
const APP_CODE: &str = "palisade-app-code";

/// Longest deadline that is taken from a caller: longer waits are for streams.
const LONGEST: Duration = Duration::from_secs(3600);

/// Serves `/{interface}/{method}` for every interface of the registry.
#[derive(Clone)]
pub(crate) struct Plain {
    registry: Arc<Registry>,
    max_message: usize,
}

impl Plain {
    pub(crate) fn new(registry: Arc<Registry>, max_message: usize) -> Plain {
        Plain { registry, max_message }
    }

    async fn call(self, interface: String, method: String, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let claim = claim_of(request.metadata())?;
        let limit = time_limit(request.metadata());
        let endpoint = match request.metadata().get(ENDPOINT) {
            Some(id) => id.to_str().map_err(|_| Status::invalid_argument("palisade-endpoint is not ASCII"))?.to_owned(),
            None => self.registry.only_endpoint(&interface).map_err(Status::unimplemented)?,
        };
        let now = self.registry.world.now();
        let (sender, answer) = oneshot::channel();
        let cancel = Arc::new(Cancel::default());
        // A dropped connection drops this future.
        let _cancels = CancelOnDrop(cancel.clone());
        let reply = ReplyTo::new(Arc::from(endpoint.as_str()), Some(self.max_message), move |result| {
            // The caller may have given up.
            let _ = sender.send(result);
        });
        let inbound = Inbound {
            claim,
            deadline: Some(now.saturating_add(limit)),
            cancel: Some(cancel),
            payload: Payload::Encoded(request.into_inner()),
            reply,
        };
        self.registry.deliver(&endpoint, &interface, &method, inbound);
        let answered = self.registry.world.timeout(limit, answer).await;
        match answered.unwrap_or(Ok(Err(RpcError::TimedOut { limit }))).unwrap_or(Err(RpcError::EndpointGone)) {
            Ok(Payload::Encoded(bytes)) => Ok(Response::new(bytes)),
            Ok(Payload::Local(_)) => unreachable!("the reply was told to encode"),
            Err(error) => Err(status_of(&error)),
        }
    }
}

fn claim_of(metadata: &MetadataMap) -> Result<Claim, Status> {
    let claimed = Claimed::read(|name| metadata.get(name).map(|value| value.as_bytes()));
    let Claimed { cluster, election, token } = claimed.map_err(|bad| Status::invalid_argument(bad.to_string()))?;
    Ok(Claim { cluster, election: Arc::from(election), token })
}

/// `grpc-timeout`, as gRPC writes it: digits and a unit.
fn time_limit(metadata: &MetadataMap) -> Duration {
    let parse = || {
        let text = metadata.get("grpc-timeout")?.to_str().ok()?;
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let count: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(count.saturating_mul(3600)),
            "M" => Duration::from_secs(count.saturating_mul(60)),
            "S" => Duration::from_secs(count),
            "m" => Duration::from_millis(count),
            "u" => Duration::from_micros(count),
            "n" => Duration::from_nanos(count),
            _ => return None,
        })
    };
    parse().unwrap_or(ASK).min(LONGEST)
}

fn status_of(error: &RpcError) -> Status {
    let (code, fence) = match error {
        RpcError::Stale { .. } | RpcError::Superseded { .. } => (Code::FailedPrecondition, Some(metadata::STALE)),
        RpcError::Ahead { .. } => (Code::FailedPrecondition, Some(metadata::AHEAD)),
        RpcError::NotLeader { .. } => (Code::FailedPrecondition, Some(metadata::NOT_LEADER)),
        RpcError::NoToken(_) | RpcError::Invalid { .. } => (Code::InvalidArgument, None),
        RpcError::NoSuchMethod { .. } => (Code::Unimplemented, None),
        RpcError::Overloaded { .. } | RpcError::TooLarge { .. } | RpcError::ReplyTooLarge { .. } => {
            (Code::ResourceExhausted, None)
        }
        RpcError::Expired | RpcError::TimedOut { .. } => (Code::DeadlineExceeded, None),
        RpcError::Cancelled => (Code::Cancelled, None),
        RpcError::App(_) => (Code::Aborted, None),
        RpcError::EndpointFailed { .. } | RpcError::BadReply { .. } => (Code::Internal, None),
        RpcError::NotLeading
        | RpcError::NotStarted
        | RpcError::NoSuchEndpoint { .. }
        | RpcError::Unreachable { .. }
        | RpcError::Disconnected { .. }
        | RpcError::GuardNotDurable { .. }
        | RpcError::EndpointGone => (Code::Unavailable, None),
    };
    let mut trailers = MetadataMap::new();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = MetadataValue::try_from(value) {
            trailers.insert(name, value);
        }
    };
    if let Some(fence) = fence {
        put(metadata::FENCE, fence);
    }
    if let Some(token) = error.current_token() {
        put(metadata::CURRENT_TOKEN, &token.to_string());
    }
    if let Some(leader) = error.leader() {
        put(metadata::LEADER, leader);
    }
    put(
        metadata::OUTCOME,
        match error.outcome() {
            crate::Outcome::NotHandled => metadata::NOT_HANDLED,
            crate::Outcome::Unknown => metadata::UNKNOWN,
            crate::Outcome::Handled => metadata::HANDLED,
        },
    );
    let Some(app) = error.app() else { return Status::with_metadata(code, error.to_string(), trailers) };
    put(APP_CODE, &app.code.to_string());
    Status::with_details_and_metadata(code, app.message.clone(), app.details.clone(), trailers)
}

impl<B> tower::Service<http::Request<B>> for Plain
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
        let plain = self.clone();
        Box::pin(async move {
            let path = request.uri().path().trim_start_matches('/').to_owned();
            let Some((interface, method)) = path.split_once('/') else {
                return Ok(Status::unimplemented("there is no such method").into_http());
            };
            let limit = plain.max_message;
            let method = Method { plain, interface: interface.to_owned(), method: method.to_owned() };
            let mut grpc =
                tonic::server::Grpc::new(BytesCodec).max_decoding_message_size(limit).max_encoding_message_size(limit);
            Ok(grpc.unary(method, request).await)
        })
    }
}

/// One method of one interface, as tonic's unary glue wants it.
struct Method {
    plain: Plain,
    interface: String,
    method: String,
}

impl tonic::server::UnaryService<Bytes> for Method {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (plain, interface, method) = (self.plain.clone(), self.interface.clone(), self.method.clone());
        Box::pin(plain.call(interface, method, request))
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
