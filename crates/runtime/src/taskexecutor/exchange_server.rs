//! Serves the data exchange: puts what arrives into the queue of its gate and returns credits as the task takes it.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use palisade_fence::{ClusterId, Token, metadata};
use palisade_world::World;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::counters::Counters;
use super::gate::{CREDITS, ChannelEntry, ChannelItem, GateId, Gates, OpenRefused};
use crate::dataflow::align::CheckpointId;
use crate::jobmaster::task::AttemptId;
use crate::proto::channel_message::Message;
use crate::proto::data_exchange_server::DataExchange;
use crate::proto::{ChannelCredit, ChannelMessage, OpenChannel};

/// A stream that says nothing must not be held for ever.
const OPEN: Duration = Duration::from_secs(10);

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct ExchangeServer {
    pub(crate) gates: Gates,
    pub(crate) election: String,
    /// Known once the first leader's election has been read.
    pub(crate) cluster: watch::Receiver<Option<ClusterId>>,
    pub(crate) counters: Counters,
    pub(crate) world: World,
}

type CreditStream = Pin<Box<dyn Stream<Item = Result<ChannelCredit, Status>> + Send>>;

#[tonic::async_trait]
impl DataExchange for ExchangeServer {
    type ChannelStream = CreditStream;

    async fn channel(&self, request: Request<Streaming<ChannelMessage>>) -> Result<Response<CreditStream>, Status> {
        let mut messages = request.into_inner();
        let first = self.world.timeout(OPEN, messages.message()).await;
        let first = first.ok_or_else(|| Status::deadline_exceeded("the channel was not opened in time"))??;
        let Some(Message::Open(open)) = first.and_then(|message| message.message) else {
            return Err(Status::invalid_argument("the first message must open the channel"));
        };
        let entry = self.open(&open).inspect_err(|_| self.counters.add("data_refused", 1))?;
        // One message ahead is enough: credits are only counted.
        let (replies, stream) = mpsc::channel(1);
        self.world.spawn("data-channel", receive(messages, entry, replies)).detach();
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl ExchangeServer {
    fn open(&self, open: &OpenChannel) -> Result<ChannelEntry, Status> {
        if *self.cluster.borrow() != Some(ClusterId(open.cluster_id)) || open.election != self.election {
            return Err(fence_refusal("this process follows another election", metadata::NOT_LEADER, None));
        }
        let attempt = open.attempt.as_ref().ok_or_else(|| Status::invalid_argument("attempt: absent"))?;
        let token = Token::from_wire(attempt.token)
            .ok_or_else(|| Status::invalid_argument(format!("attempt.token: {} is not a token", attempt.token)))?;
        let job =
            attempt.job_id.parse().map_err(|error| Status::invalid_argument(format!("attempt.job_id: {error}")))?;
        let id = GateId { job, attempt: AttemptId { token, number: attempt.number }, count: open.to_count };
        self.gates.open(&id, open.from_source).map_err(|refused| match refused {
            OpenRefused::Stale { current } => {
                fence_refusal("a newer leader has been accepted", metadata::STALE, Some(current))
            }
            OpenRefused::NoSuchTask => {
                Status::not_found(format!("attempt {} of count-{} does not run here", id.attempt, id.count))
            }
            OpenRefused::OpenedTwice => Status::already_exists("this channel has been opened before"),
        })
    }
}

/// A refusal as CLI.md's plain gRPC has it.
fn fence_refusal(why: &str, kind: &'static str, current: Option<Token>) -> Status {
    let mut status = Status::failed_precondition(why);
    status.metadata_mut().insert(metadata::FENCE, tonic::metadata::MetadataValue::from_static(kind));
    if let Some(current) = current.and_then(|token| token.get().to_string().parse().ok()) {
        status.metadata_mut().insert(metadata::CURRENT_TOKEN, current);
    }
    status
}

/// Runs until the end of the channel. The queue has as many places as there are credits, so an honest sender never waits.
async fn receive(
    mut messages: Streaming<ChannelMessage>,
    entry: ChannelEntry,
    replies: mpsc::Sender<Result<ChannelCredit, Status>>,
) {
    if replies.send(Ok(ChannelCredit { credits: CREDITS })).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            credits = entry.credits.take() => {
                if replies.send(Ok(ChannelCredit { credits })).await.is_err() {
                    return;
                }
            }
            message = messages.message() => {
                let item = match message {
                    Ok(Some(ChannelMessage { message: Some(message) })) => match message {
                        Message::Records(bytes) => ChannelItem::Records(bytes),
                        Message::Barrier(id) => ChannelItem::Barrier(CheckpointId(id)),
                        Message::End(_) => ChannelItem::End,
                        Message::Open(_) => return,
                    },
                    // Broken, or over without an end: dropping the entry tells the task, the status tells the sender.
                    _ => {
                        let _ = replies.send(Err(Status::aborted("the channel was over before its end"))).await;
                        return;
                    }
                };
                let end = item == ChannelItem::End;
                match entry.items.try_send(item) {
                    Ok(()) if end => return,
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        let _ = replies.send(Err(Status::resource_exhausted("more messages than credits"))).await;
                        return;
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => {
                        let _ = replies.send(Err(Status::aborted("the task has ended"))).await;
                        return;
                    }
                }
            }
        }
    }
}
