//! The sending end of the data exchange: one channel from a source subtask to a count subtask, in this process or in another.
//!
//! `send` waits while the receiver has given no credit: that is the back-pressure. A channel is never opened again: when it
//! breaks, the task fails and the job goes back to its last checkpoint.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use palisade_fence::ClusterId;
use palisade_world::{Task, World};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::gate::{CREDITS, ChannelEntry, ChannelItem, GateId, Gates};
use crate::proto::channel_message::Message;
use crate::proto::data_exchange_client::DataExchangeClient;
use crate::proto::{AttemptId, ChannelCredit, ChannelMessage, Done, OpenChannel};

/// A channel could not be opened, or broke.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("channel to {to}: {why}")]
pub(crate) struct ChannelBroken {
    pub(crate) to: String,
    pub(crate) why: String,
}

/// Opens channels; keeps one connection per TaskExecutor, for records only, so that heartbeats and control never wait behind
/// them.
#[derive(Clone, Debug)]
pub(crate) struct ExchangeClient {
    pub(crate) gates: Gates,
    pub(crate) own_address: String,
    pub(crate) election: String,
    pub(crate) cluster: ClusterId,
    pub(crate) world: World,
    pub(crate) connections: Arc<Mutex<BTreeMap<String, Channel>>>,
}

impl ExchangeClient {
    /// Opens the channel of `source` to the gate `to` at a TaskExecutor's data address.
    pub(crate) async fn open(&self, source: u32, to: &GateId, address: &str) -> Result<ChannelSender, ChannelBroken> {
        let name = format!("count-{} at {address}", to.count);
        let broken = |why: String| ChannelBroken { to: name.clone(), why };
        if address == self.own_address {
            let entry = self.gates.open(to, source).map_err(|refused| broken(format!("{refused:?}")))?;
            return Ok(ChannelSender::Local { entry, name });
        }
        let channel = self.connection(address).map_err(&broken)?;
        let (sender, outgoing) = mpsc::channel(usize::try_from(CREDITS).expect("bounded") + 1);
        let open = OpenChannel {
            cluster_id: self.cluster.0,
            election: self.election.clone(),
            attempt: Some(AttemptId {
                job_id: to.job.to_string(),
                token: to.attempt.token.get(),
                number: to.attempt.number,
            }),
            from_source: source,
            to_count: to.count,
        };
        let first = ChannelMessage { message: Some(Message::Open(open)) };
        sender.try_send(first).map_err(|_| broken("its queue is empty and open".to_owned()))?;
        let reply = DataExchangeClient::new(channel).channel(ReceiverStream::new(outgoing)).await;
        let credits =
            reply.map_err(|status| broken(format!("{:?}: {}", status.code(), status.message())))?.into_inner();
        let permits = Arc::new(Semaphore::new(0));
        let (ended, end) = watch::channel(None);
        let credit_task = self.world.spawn("data-credits", take_credits(credits, permits.clone(), ended));
        Ok(ChannelSender::Remote { sender, permits, end, _credit_task: credit_task, name })
    }

    fn connection(&self, address: &str) -> Result<Channel, String> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = connections.get(address) {
            return Ok(known.clone());
        }
        let made = palisade_world::grpc::channel(&self.world, address).map_err(|error| error.to_string())?;
        // Addresses of TaskExecutors that are gone are forgotten with the rest: reconnecting is cheap.
        const CONNECTIONS_MAX: usize = 256;
        if connections.len() >= CONNECTIONS_MAX {
            connections.clear();
        }
        connections.insert(address.to_owned(), made.clone());
        Ok(made)
    }
}

/// The end of the credit stream: `None` while it runs; then whether the receiver had taken everything, or why not.
type End = Option<Result<(), String>>;

async fn take_credits(mut credits: Streaming<ChannelCredit>, permits: Arc<Semaphore>, ended: watch::Sender<End>) {
    let end = loop {
        match credits.message().await {
            Ok(Some(granted)) => permits.add_permits(usize::try_from(granted.credits.min(CREDITS)).expect("bounded")),
            Ok(None) => break Ok(()),
            Err(status) => break Err(format!("{:?}: {}", status.code(), status.message())),
        }
    };
    permits.close();
    ended.send_replace(Some(end));
}

/// One open channel.
#[derive(Debug)]
pub(crate) enum ChannelSender {
    Local {
        entry: ChannelEntry,
        name: String,
    },
    Remote {
        sender: mpsc::Sender<ChannelMessage>,
        permits: Arc<Semaphore>,
        end: watch::Receiver<End>,
        _credit_task: Task<()>,
        name: String,
    },
}

impl ChannelSender {
    /// Sends one item; waits for a credit. Cancelling it sends nothing.
    pub(crate) async fn send(&mut self, item: ChannelItem) -> Result<(), ChannelBroken> {
        match self {
            ChannelSender::Local { entry, name } => {
                entry.items.send(item).await.map_err(|_| broken(name, "the task has ended"))
            }
            ChannelSender::Remote { sender, permits, end, name, .. } => {
                match permits.acquire().await {
                    Ok(permit) => permit.forget(),
                    Err(_) => return Err(broken(name, &why_ended(end))),
                }
                let message = match item {
                    ChannelItem::Records(bytes) => Message::Records(bytes),
                    ChannelItem::Barrier(id) => Message::Barrier(id.0),
                    ChannelItem::End => Message::End(Done {}),
                };
                let message = ChannelMessage { message: Some(message) };
                sender.send(message).await.map_err(|_| broken(name, "the connection broke"))
            }
        }
    }

    /// After the end was sent: waits until the receiver has it in its queue.
    pub(crate) async fn finish(self) -> Result<(), ChannelBroken> {
        match self {
            ChannelSender::Local { .. } => Ok(()),
            ChannelSender::Remote { sender, mut end, name, _credit_task, .. } => {
                drop(sender);
                let ended = end.wait_for(Option::is_some).await.map(|end| end.clone());
                match ended {
                    Ok(Some(Ok(()))) => Ok(()),
                    Ok(Some(Err(why))) => Err(broken(&name, &why)),
                    Ok(None) | Err(_) => Err(broken(&name, "the connection broke")),
                }
            }
        }
    }
}

fn why_ended(end: &watch::Receiver<End>) -> String {
    match &*end.borrow() {
        Some(Err(why)) => why.clone(),
        _ => "the receiver closed it".to_owned(),
    }
}

fn broken(to: &str, why: &str) -> ChannelBroken {
    ChannelBroken { to: to.to_owned(), why: why.to_owned() }
}
