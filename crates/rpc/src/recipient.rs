//! The way into an endpoint: judges a message at arrival, and queues or refuses it at once. Never blocks, never runs anything.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::actor::Step;
use crate::endpoint::EndpointShared;
use crate::fencing::Verdict;
use crate::inbound::Inbound;
use crate::{AnswerKind, Life, RpcEndpoint, RpcError};

/// What waits in a mailbox.
pub(crate) enum Mail<E: RpcEndpoint> {
    /// A message from a gateway.
    Call(Call),
    /// The endpoint's own work.
    Step(Step<E>),
}

/// A message with the handler that it asks for.
pub(crate) struct Call {
    pub(crate) handler: Method,
    pub(crate) inbound: Inbound,
}

/// Its place in the endpoint's dispatch tables.
#[derive(Clone, Copy)]
pub(crate) struct Method {
    pub(crate) interface: usize,
    pub(crate) method: usize,
}

/// The way into an endpoint, for whoever brings messages.
pub(crate) struct Recipient<E: RpcEndpoint> {
    pub(crate) shared: Arc<EndpointShared>,
    pub(crate) mail: mpsc::Sender<Mail<E>>,
}

/// A recipient whose state's type is forgotten.
pub(crate) trait Deliver: Send + Sync {
    fn shared(&self) -> &Arc<EndpointShared>;
    /// Judges a message at arrival and queues it, or refuses it at once. Never blocks.
    fn deliver(&self, interface: &str, method: &str, inbound: Inbound);
}

impl<E: RpcEndpoint> Deliver for Recipient<E> {
    fn shared(&self) -> &Arc<EndpointShared> {
        &self.shared
    }

    fn deliver(&self, interface: &str, method: &str, inbound: Inbound) {
        let handler = match self.shared.admit_at_arrival(interface, method, &inbound) {
            Ok(handler) => handler,
            Err(error) => return self.shared.refuse(inbound, error),
        };
        match self.mail.try_send(Mail::Call(Call { handler, inbound })) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(Mail::Call(call))) => {
                self.shared.refuse(call.inbound, RpcError::Overloaded { limit: self.shared.mailbox as u64 });
            }
            Err(mpsc::error::TrySendError::Closed(Mail::Call(call))) => {
                self.shared.refuse(call.inbound, self.shared.gone());
            }
            Err(_) => unreachable!("a call was sent"),
        }
    }
}

impl EndpointShared {
    fn admit_at_arrival(&self, interface: &str, method: &str, inbound: &Inbound) -> Result<Method, RpcError> {
        let life = *self.life.borrow();
        match life {
            Life::Stopped => return Err(RpcError::NotStarted),
            Life::Terminated => return Err(self.gone()),
            Life::Started | Life::Terminating => {}
        }
        let handler = self.method(interface, method)?;
        match self.fencing.check(&inbound.claim, self.address.node()) {
            Verdict::Admit(_) | Verdict::Confirm(_) => Ok(handler),
            Verdict::Refuse(error) => Err(error),
        }
    }

    fn method(&self, interface: &str, method: &str) -> Result<Method, RpcError> {
        let find = || {
            let at = self.interfaces.iter().position(|info| info.name == interface)?;
            let method = self.interfaces[at].methods.iter().position(|info| info.name == method)?;
            Some(Method { interface: at, method })
        };
        find().ok_or_else(|| RpcError::NoSuchMethod { method: format!("{interface}/{method}") })
    }

    fn gone(&self) -> RpcError {
        RpcError::NoSuchEndpoint { endpoint: self.id.to_string() }
    }

    pub(crate) fn refuse(&self, inbound: Inbound, error: RpcError) {
        self.count(&inbound.claim.election, AnswerKind::of(&error));
        inbound.reply.refuse(error);
    }

    pub(crate) fn count(&self, election: &Arc<str>, answer: AnswerKind) {
        if election.is_empty() || self.fencing.knows(election) {
            self.counters.count(&self.id, election, answer);
        } else {
            self.counters.count(&self.id, &Arc::from("(other)"), answer);
        }
    }
}
