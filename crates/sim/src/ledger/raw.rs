//! A stream to a ledger without the gateway: frames of anybody's making, any number of times, under any id.

use std::time::Duration;

use futures_util::stream;
use palisade_fence::Fence;
use palisade_rpc::RpcGateway;
use palisade_rpc::v1::envelope_client::EnvelopeClient;
use palisade_rpc::v1::{Answer, Call, Frame, Frames, Handshake, answer, error, frame};
use palisade_world::{World, grpc};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::proto::LedgerGateway;
use super::{ENDPOINT, Message, Method, Reply};

/// How long a stream may take to open.
const OPEN: Duration = Duration::from_secs(2);

/// The near end of a stream, to speak into. The stream ends when both ends are dropped.
pub(crate) struct Speaker(mpsc::UnboundedSender<Frames>);

/// The near end of a stream, to listen at.
pub(crate) struct Listener(Streaming<Frames>);

/// Opens a connection of its own and a stream on it; `None` if that cannot be done.
pub(crate) async fn open(world: &World, address: &str) -> Option<(Speaker, Listener)> {
    let channel = grpc::channel(world, address).ok()?;
    let (out, mut queued) = mpsc::unbounded_channel();
    let greeting = Handshake { version: palisade_rpc::ENVELOPE_VERSION, ..Handshake::default() };
    out.send(one(frame::Kind::Handshake(greeting))).ok()?;
    let frames = stream::poll_fn(move |cx| queued.poll_recv(cx));
    let mut client = EnvelopeClient::new(channel);
    let opened = world.timeout(OPEN, client.open(frames)).await?;
    Some((Speaker(out), Listener(opened.ok()?.into_inner())))
}

impl Speaker {
    /// Sends a message under this id. `false`: the stream has ended.
    pub(crate) fn send(&self, id: u64, fence: &Fence, message: Message) -> bool {
        let call = Call {
            id,
            endpoint: ENDPOINT.to_owned(),
            interface: LedgerGateway::INTERFACE.name.to_owned(),
            method: message.method.name().to_owned(),
            election: fence.election.clone(),
            token: fence.token.get(),
            payload: message.request().into(),
            tell: message.method == Method::Note,
            ..Call::default()
        };
        self.0.send(one(frame::Kind::Call(call))).is_ok()
    }
}

impl Listener {
    /// The answers of the next batch; `None`: the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Vec<Answer>> {
        let Frames { frames } = self.0.message().await.ok()??;
        let answers = frames.into_iter().filter_map(|frame| match frame.kind {
            Some(frame::Kind::Answer(answer)) => Some(answer),
            _ => None,
        });
        Some(answers.collect())
    }
}

fn one(kind: frame::Kind) -> Frames {
    Frames { frames: vec![Frame { kind: Some(kind) }] }
}

/// What an answer says about the message that it answers.
pub(crate) fn reply_of(answer: &Answer, message: Message) -> Reply {
    match &answer.result {
        Some(answer::Result::Payload(bytes)) => message.answered(bytes).map_or(Reply::Unknown, Reply::Answered),
        Some(answer::Result::Error(error)) => match error.kind() {
            error::Kind::Stale => Reply::Stale,
            error::Kind::Superseded => Reply::Superseded,
            error::Kind::Unspecified => Reply::Unknown,
            // The envelope keeps the kinds that surely did not run below this number.
            surely if (surely as i32) < error::Kind::TimedOut as i32 => Reply::NotHandled,
            _ => Reply::Unknown,
        },
        None => Reply::Unknown,
    }
}
