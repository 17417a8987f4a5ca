//! The way into an endpoint: judges a message at arrival, and queues or refuses it at once. Never blocks, never runs anything.

use std::sync::Arc;

use crate::actor::Step;
use crate::counters::{Counters, Tally};
use crate::endpoint::EndpointShared;
use crate::fencing::Verdict;
use crate::inbound::Inbound;
use crate::interface::Lane;
use crate::mailbox::{Mailbox, Refused};
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
    pub(crate) lane: Lane,
}

/// The way into an endpoint, for whoever brings messages.
pub(crate) struct Recipient<E: RpcEndpoint> {
    pub(crate) shared: Arc<EndpointShared>,
    pub(crate) mail: Arc<Mailbox<Mail<E>>>,
}

/// A recipient whose state's type is forgotten.
pub(crate) trait Deliver: Send + Sync {
    fn shared(&self) -> &Arc<EndpointShared>;
    /// The method of that name; `None`: there is none.
    fn find(&self, interface: &str, method: &str) -> Option<Method>;
    /// Judges a message at arrival and queues it, or refuses it at once. Never blocks.
    fn deliver_to(&self, method: Method, inbound: Inbound);

    /// The same, by the method's name.
    fn deliver(&self, interface: &str, method: &str, inbound: Inbound) {
        let shared = self.shared();
        // An endpoint that is not served says so before it says what it could do.
        match shared.served().and_then(|()| shared.method(interface, method)) {
            Ok(method) => self.deliver_to(method, inbound),
            Err(error) => shared.refuse(inbound, error),
        }
    }
}

impl<E: RpcEndpoint> Deliver for Recipient<E> {
    fn shared(&self) -> &Arc<EndpointShared> {
        &self.shared
    }

    fn find(&self, interface: &str, method: &str) -> Option<Method> {
        self.shared.method(interface, method).ok()
    }

    fn deliver_to(&self, method: Method, inbound: Inbound) {
        if let Err(error) = self.shared.admit_at_arrival(&inbound) {
            return self.shared.refuse(inbound, error);
        }
        let size = inbound.payload.size();
        match self.mail.push(method.lane, Mail::Call(Call { handler: method, inbound }), size) {
            Ok(()) => {}
            Err(Refused::Full { message: Mail::Call(call), limit }) => {
                self.shared.refuse(call.inbound, RpcError::Overloaded { limit: limit as u64 });
            }
            Err(Refused::Ended(Mail::Call(call))) => self.shared.refuse(call.inbound, self.shared.gone()),
            Err(_) => unreachable!("a call was pushed"),
        }
    }
}

impl EndpointShared {
    fn served(&self) -> Result<(), RpcError> {
        match *self.life.borrow() {
            Life::Stopped => Err(RpcError::NotStarted),
            Life::Terminated => Err(self.gone()),
            Life::Started | Life::Terminating => Ok(()),
        }
    }

    fn admit_at_arrival(&self, inbound: &Inbound) -> Result<(), RpcError> {
        self.served()?;
        match self.fencing.check(&inbound.claim, self.address.node()) {
            Verdict::Admit(_) | Verdict::Confirm(_) => Ok(()),
            Verdict::Refuse(error) => Err(error),
        }
    }

    fn method(&self, interface: &str, method: &str) -> Result<Method, RpcError> {
        let find = || {
            let at = self.interfaces.iter().position(|info| info.name == interface)?;
            let method = self.interfaces[at].methods.iter().position(|info| info.name == method)?;
            let lane = self.interfaces[at].methods[method].lane;
            Some(Method { interface: at, method, lane })
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
        self.tallies.count(election, answer);
    }
}

/// Where the answers of one endpoint are counted: by its own elections, and together for all others, so that forged names
/// cannot fill the memory.
pub(crate) struct Tallies {
    own: Vec<(Arc<str>, Arc<Tally>)>,
    other: Arc<Tally>,
}

impl Tallies {
    pub(crate) fn new(counters: &Counters, endpoint: &Arc<str>, elections: Vec<Arc<str>>) -> Tallies {
        // Messages without an election are counted apart.
        let named = std::iter::once(Arc::from("")).chain(elections);
        let own = named.map(|election| (election.clone(), counters.tally(endpoint, &election))).collect();
        Tallies { own, other: counters.tally(endpoint, &Arc::from("(other)")) }
    }

    fn count(&self, election: &str, answer: AnswerKind) {
        let own = self.own.iter().find(|(name, _)| **name == *election);
        own.map_or(&self.other, |(_, tally)| tally).count(answer);
    }
}
