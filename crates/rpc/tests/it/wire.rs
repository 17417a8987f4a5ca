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
}

impl Stream {
    pub(crate) async fn open(to: SocketAddr, version: u32) -> Stream {
        let (out, mut queued) = mpsc::unbounded_channel();
        let greeting = Handshake { version, ..Handshake::default() };
        out.send(Frames { frames: vec![Frame { kind: Some(frame::Kind::Handshake(greeting)) }] }).unwrap();
        let frames = futures_util::stream::poll_fn(move |cx| queued.poll_recv(cx));
        let answers = soon("the stream opens", EnvelopeClient::new(channel(to)).open(frames)).await.unwrap();
        Stream { out, answers: answers.into_inner() }
    }

    pub(crate) fn send(&self, kind: frame::Kind) {
        self.out.send(Frames { frames: vec![Frame { kind: Some(kind) }] }).unwrap();
    }

    pub(crate) async fn answer(&mut self) -> palisade_rpc::v1::Answer {
        let frames = soon("an answer", self.answers.message()).await.unwrap().unwrap();
        match frames.frames.into_iter().next().unwrap().kind {
            Some(frame::Kind::Answer(answer)) => answer,
            other => panic!("not an answer: {other:?}"),
        }
    }
}

async fn send_on_stream(to: SocketAddr, interface: &str, method: &MethodInfo, token: u64, ran: impl Future) -> Reply {
    let mut stream = Stream::open(to, 1).await;
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
