//! The two forms by which a message reaches an endpoint, as bytes on a socket: what any program could send.

use std::net::SocketAddr;

use palisade_rpc::v1::{Call, Frame, Frames, Handshake, answer, envelope_client::EnvelopeClient, error, frame};
use palisade_rpc::{MethodInfo, MethodKind};
use palisade_world::{World, grpc};
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::election::{CLUSTER, ELECTION};
use crate::soon;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It was answered: it ran.
    Answered,
    /// A tell that was not refused at once.
    Silent,
    /// It ran, and the endpoint failed or said no.
    RanBadly,
    NoToken,
    Fenced {
        why: &'static str,
        current: u64,
        leader: String,
    },
    Other(String),
}

/// How a message travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Stream,
    Plain,
}

/// Sends one message with an empty payload and the token `token` (0: none) to the endpoint "counter".
pub(crate) async fn send(
    form: Form,
    to: SocketAddr,
    interface: &str,
    method: &MethodInfo,
    token: u64,
    ran: impl Future,
) -> Reply {
    match form {
        Form::Stream => send_on_stream(to, interface, method, token, ran).await,
        Form::Plain => send_plain(to, interface, method, token).await,
    }
}

pub(crate) fn channel(to: SocketAddr) -> Channel {
    grpc::channel(&World::real(), &to.to_string()).unwrap()
}

/// A bare stream after its handshake.
pub(crate) struct Stream {
    out: mpsc::UnboundedSender<Frames>,
    answers: tonic::Streaming<Frames>,
    /// Of the batch that came last.
    waiting: std::collections::VecDeque<Frame>,
}

impl Stream {
    pub(crate) async fn open(to: SocketAddr, version: u32) -> Stream {
        let (out, mut queued) = mpsc::unbounded_channel();
        let greeting = Handshake { version, ..Handshake::default() };
        out.send(Frames { frames: vec![Frame { kind: Some(frame::Kind::Handshake(greeting)) }] }).unwrap();
        let frames = futures_util::stream::poll_fn(move |cx| queued.poll_recv(cx));
        let answers = soon("the stream opens", EnvelopeClient::new(channel(to)).open(frames)).await.unwrap();
        Stream { out, answers: answers.into_inner(), waiting: std::collections::VecDeque::new() }
    }

    pub(crate) fn send(&self, kind: frame::Kind) {
        self.out.send(Frames { frames: vec![Frame { kind: Some(kind) }] }).unwrap();
    }

    pub(crate) async fn answer(&mut self) -> palisade_rpc::v1::Answer {
        while self.waiting.is_empty() {
            self.waiting.extend(soon("an answer", self.answers.message()).await.unwrap().unwrap().frames);
        }
        match self.waiting.pop_front().unwrap().kind {
            Some(frame::Kind::Answer(answer)) => answer,
            other => panic!("not an answer: {other:?}"),
        }
    }
}

/// Sends bytes where a batch of frames is expected, and waits until the other side has ended the stream.
pub(crate) async fn end_of_stream_with(to: SocketAddr, bytes: Vec<u8>) {
    let mut grpc = tonic::client::Grpc::new(channel(to));
    grpc.ready().await.unwrap();
    // prost's own encoding of bytes as a message would prefix them: this codec does not.
    let batches = futures_util::StreamExt::chain(futures_util::stream::iter([bytes]), futures_util::stream::pending());
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/palisade.rpc.v1.Envelope/Open");
    let answers = grpc.streaming(Request::new(batches), path, Raw).await.unwrap();
    let mut answers = answers.into_inner();
    while let Ok(Some(_)) = answers.message().await {}
}

/// Vectors of bytes as they are.
#[derive(Clone, Copy)]
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(out, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let len = prost::bytes::Buf::remaining(from);
        Ok(Some(prost::bytes::Buf::copy_to_bytes(from, len).to_vec()))
    }
}

async fn send_on_stream(to: SocketAddr, interface: &str, method: &MethodInfo, token: u64, ran: impl Future) -> Reply {
    let mut stream = Stream::open(to, palisade_rpc::ENVELOPE_VERSION).await;
    let tell = method.kind == MethodKind::Tell;
    stream.send(frame::Kind::Call(Call {
        id: 1,
        endpoint: "counter".to_owned(),
        interface: interface.to_owned(),
        method: method.name.to_owned(),
        cluster: CLUSTER.0,
        election: ELECTION.to_owned(),
        token,
        tell,
        ..Call::default()
    }));
    let answer = tokio::select! {
        answer = stream.answer() => answer,
        // An accepted tell has no answer: it is known by what it does.
        _ = ran, if tell => return Reply::Silent,
    };
    let Some(answer::Result::Error(error)) = answer.result else { return Reply::Answered };
    let fenced = |why| Reply::Fenced { why, current: error.current_token, leader: error.leader.clone() };
    match error.kind() {
        error::Kind::Stale => fenced("stale"),
        error::Kind::Ahead => fenced("ahead"),
        error::Kind::NotLeader => fenced("not-leader"),
        error::Kind::NoToken => Reply::NoToken,
        error::Kind::EndpointFailed | error::Kind::Application => Reply::RanBadly,
        other => Reply::Other(format!("{other:?}: {}", error.message)),
    }
}

/// A plain gRPC call with an empty message.
pub(crate) async fn plain(to: SocketAddr, path: String, metadata: MetadataMap) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel(to));
    soon("a connection", grpc.ready()).await.unwrap();
    let path = path.parse().unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::new();
    let request = Request::from_parts(metadata, tonic::Extensions::new(), ());
    soon("an answer", grpc.unary(request, path, codec)).await.map(|_| ())
}

async fn send_plain(to: SocketAddr, interface: &str, method: &MethodInfo, token: u64) -> Reply {
    let mut metadata = MetadataMap::new();
    metadata.insert("palisade-election", "counter%2F%C3%A6".parse().unwrap());
    if token != 0 {
        metadata.insert("palisade-token", token.to_string().parse().unwrap());
    }
    let Err(status) = plain(to, format!("/{interface}/{}", method.name), metadata).await else {
        return Reply::Answered;
    };
    let text = |name: &str| status.metadata().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    match (status.code(), text("palisade-fence").as_str()) {
        (tonic::Code::InvalidArgument, "") => Reply::NoToken,
        (tonic::Code::FailedPrecondition, fence) => Reply::Fenced {
            why: ["stale", "ahead", "not-leader"].into_iter().find(|why| *why == fence).expect("one of three"),
            current: text("palisade-current-token").parse().unwrap_or(0),
            leader: text("palisade-leader"),
        },
        (tonic::Code::Internal | tonic::Code::Aborted, "") => Reply::RanBadly,
        _ => Reply::Other(format!("{status:?}")),
    }
}
