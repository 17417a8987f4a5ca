//! One message on its way to an endpoint: what it claims, what it carries, and how it is answered. The same for messages from
//! this process, from a stream and from plain gRPC.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use palisade_fence::{ClusterId, Token};
use prost::Message;
use tokio::sync::Notify;

use crate::RpcError;

/// A request or an answer: bytes off the wire, or the typed message of a caller in this process.
pub enum Payload {
    /// Encoded protobuf.
    Encoded(Bytes),
    /// The message itself.
    Local(Box<dyn Any + Send>),
}

impl Payload {
    /// The typed message.
    pub(crate) fn take<M: Message + Default + 'static>(self) -> Result<M, String> {
        match self {
            Payload::Encoded(bytes) => M::decode(bytes).map_err(|error| error.to_string()),
            Payload::Local(message) => {
                message.downcast().map(|message| *message).map_err(|_| "a message of another type".to_owned())
            }
        }
    }
}

/// What a message says about its fence.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// `None`: the receiver's own.
    pub(crate) cluster: Option<ClusterId>,
    /// Empty: none.
    pub(crate) election: Arc<str>,
    pub(crate) token: Option<Token>,
}

impl Claim {
    pub(crate) fn none() -> Claim {
        Claim { cluster: None, election: Arc::from(""), token: None }
    }
}

/// Set by a caller that no longer wants the answer.
#[derive(Default)]
pub(crate) struct Cancel {
    flag: AtomicBool,
    changed: Notify,
}

impl Cancel {
    pub(crate) fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    pub(crate) async fn cancelled(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_cancelled() {
                return;
            }
            changed.await;
        }
    }
}

/// A message, addressed and not yet judged.
pub(crate) struct Inbound {
    pub(crate) claim: Claim,
    /// On the world's clock.
    pub(crate) deadline: Option<Duration>,
    pub(crate) cancel: Option<Arc<Cancel>>,
    pub(crate) payload: Payload,
    pub(crate) reply: ReplyTo,
}

type Sink = Box<dyn FnOnce(Result<Payload, RpcError>) + Send>;

/// Where the answer goes. Keeps true: exactly one answer is given; a reply that is dropped answers for itself.
pub struct ReplyTo {
    sink: Option<Sink>,
    /// `None`: the caller is in this process and takes the message itself. Else the largest answer in bytes.
    encoded_limit: Option<usize>,
    begun: bool,
    endpoint: Arc<str>,
}

impl ReplyTo {
    pub(crate) fn new(
        endpoint: Arc<str>,
        encoded_limit: Option<usize>,
        sink: impl FnOnce(Result<Payload, RpcError>) + Send + 'static,
    ) -> ReplyTo {
        ReplyTo { sink: Some(Box::new(sink)), encoded_limit, begun: false, endpoint }
    }

    /// From now on the outcome is no longer "surely not handled".
    pub(crate) fn begin(&mut self) {
        self.begun = true;
    }

    pub(crate) fn refuse(mut self, error: RpcError) {
        if let Some(sink) = self.sink.take() {
            sink(Err(error));
        }
    }

    pub(crate) fn answer<M: Message + 'static>(mut self, result: Result<M, RpcError>) {
        let Some(sink) = self.sink.take() else { return };
        sink(result.and_then(|reply| match self.encoded_limit {
            None => Ok(Payload::Local(Box::new(reply))),
            Some(limit) if reply.encoded_len() > limit => {
                Err(RpcError::ReplyTooLarge { size: reply.encoded_len() as u64, limit: limit as u64 })
            }
            Some(_) => Ok(Payload::Encoded(reply.encode_to_vec().into())),
        }));
    }

    /// A tell was handled.
    pub(crate) fn told(mut self) {
        if let Some(sink) = self.sink.take() {
            sink(Ok(Payload::Encoded(Bytes::new())));
        }
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        let Some(sink) = self.sink.take() else { return };
        sink(Err(match self.begun {
            false => RpcError::NoSuchEndpoint { endpoint: self.endpoint.to_string() },
            true if std::thread::panicking() => RpcError::EndpointFailed { why: "a step panicked".to_owned() },
            true => RpcError::EndpointGone,
        }));
    }
}
