//! One message on its way to an endpoint: what it claims, what it carries, and how it is answered. The same for messages from
//! this process, from a stream and from plain gRPC.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use palisade_fence::{ClusterId, Token};
use prost::Message;
use tokio::sync::{Notify, oneshot};

use crate::tells::Tells;
use crate::transport::{AskReply, TellReply};
use crate::v1::Told;
use crate::{MethodInfo, Refusal, RpcError};

/// A request or an answer: bytes off the wire, or the typed message of a caller in this process.
pub enum Payload {
    /// Encoded protobuf.
    Encoded(Bytes),
    /// The message itself.
    Local(Box<dyn Any + Send>),
}

impl Payload {
    /// Encoded bytes; none for a message of this process.
    pub(crate) fn size(&self) -> usize {
        match self {
            Payload::Encoded(bytes) => bytes.len(),
            Payload::Local(_) => 0,
        }
    }

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

/// Where an answer goes. Named, so that a message needs no box for it.
pub(crate) enum Sink {
    /// A caller in this process, or of plain gRPC, who waits.
    Waiter(oneshot::Sender<Result<Payload, RpcError>>),
    /// The tell of a gateway in this process.
    Told(Arc<Tells>, &'static MethodInfo),
    /// An ask that came over a stream.
    Ask(AskReply),
    /// A tell that came over a stream.
    Tell(TellReply),
    /// Anybody else.
    Boxed(Box<dyn FnOnce(Result<Payload, RpcError>) + Send>),
}

impl Sink {
    fn refuse(self, error: RpcError) {
        match self {
            // Whoever waited may have given up.
            Sink::Waiter(waiter) => drop(waiter.send(Err(error))),
            Sink::Told(tells, method) => {
                tells.report(Refusal { method: method.name.to_owned(), error });
                tells.window(method.lane).handled_one();
            }
            Sink::Ask(reply) => reply.refuse(&error),
            Sink::Tell(reply) => reply.refuse(&error),
            Sink::Boxed(sink) => sink(Err(error)),
        }
    }

    fn told(self) {
        match self {
            Sink::Waiter(waiter) => drop(waiter.send(Ok(Payload::Encoded(Bytes::new())))),
            Sink::Told(tells, method) => tells.window(method.lane).handled_one(),
            Sink::Ask(reply) => reply.answer(&Told {}),
            Sink::Tell(reply) => reply.told(),
            Sink::Boxed(sink) => sink(Ok(Payload::Encoded(Bytes::new()))),
        }
    }

    /// `encoded`: whether the caller wants bytes.
    fn answer<M: Message + 'static>(self, reply: M, encoded: bool) {
        let payload = |reply: M| match encoded {
            true => Payload::Encoded(reply.encode_to_vec().into()),
            false => Payload::Local(Box::new(reply)),
        };
        match self {
            Sink::Waiter(waiter) => drop(waiter.send(Ok(payload(reply)))),
            Sink::Ask(back) => back.answer(&reply),
            Sink::Boxed(sink) => sink(Ok(payload(reply))),
            tell @ (Sink::Told(..) | Sink::Tell(_)) => tell.told(),
        }
    }
}

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
        ReplyTo::with(endpoint, encoded_limit, Sink::Boxed(Box::new(sink)))
    }

    pub(crate) fn with(endpoint: Arc<str>, encoded_limit: Option<usize>, sink: Sink) -> ReplyTo {
        ReplyTo { sink: Some(sink), encoded_limit, begun: false, endpoint }
    }

    /// From now on the outcome is no longer "surely not handled".
    pub(crate) fn begin(&mut self) {
        self.begun = true;
    }

    pub(crate) fn refuse(mut self, error: RpcError) {
        if let Some(sink) = self.sink.take() {
            sink.refuse(error);
        }
    }

    pub(crate) fn answer<M: Message + 'static>(mut self, result: Result<M, RpcError>) {
        let Some(sink) = self.sink.take() else { return };
        match (result, self.encoded_limit) {
            (Err(error), _) => sink.refuse(error),
            (Ok(reply), None) => sink.answer(reply, false),
            (Ok(reply), Some(limit)) => match reply.encoded_len() {
                size if size > limit => {
                    sink.refuse(RpcError::ReplyTooLarge { size: size as u64, limit: limit as u64 });
                }
                _ => sink.answer(reply, true),
            },
        }
    }

    /// A tell was handled.
    pub(crate) fn told(mut self) {
        if let Some(sink) = self.sink.take() {
            sink.told();
        }
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        let Some(sink) = self.sink.take() else { return };
        sink.refuse(match self.begun {
            false => RpcError::NoSuchEndpoint { endpoint: self.endpoint.to_string() },
            true if std::thread::panicking() => RpcError::EndpointFailed { why: "a step panicked".to_owned() },
            true => RpcError::EndpointGone,
        });
    }
}
