//! The untyped half of a gateway: stamps, sends, waits. Keeps true: it never sends under a lower token than this process has
//! seen; every tell that is refused ends in its [`Refusals`].

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use palisade_fence::Token;
use prost::Message;
use tokio::sync::oneshot;

use crate::inbound::{Cancel, Claim, Inbound, Payload, ReplyTo};
use crate::registry::Registry;
use crate::transport::{Link, Outbound, Teller};
use crate::{InterfaceInfo, Refusal, Refusals, RpcAddress, RpcError, Stamp};

/// How long an ask waits unless [`RawGateway::within`] says otherwise; as in Flink.
pub(crate) const ASK: Duration = Duration::from_secs(10);

/// A gateway without the types of its messages; what the generated gateways wrap. Cheap to clone.
#[derive(Clone)]
pub struct RawGateway {
    inner: Arc<Inner>,
    limit: Duration,
}

struct Inner {
    address: RpcAddress,
    endpoint: Arc<str>,
    interface: &'static InterfaceInfo,
    stamp: Stamp,
    election: Arc<str>,
    /// Shared by all gateways of this process to that election.
    seen: Option<Arc<AtomicU64>>,
    refusals: Refusals,
    registry: Arc<Registry>,
    /// `None`: within this process.
    remote: Option<Remote>,
}

struct Remote {
    link: Arc<Link>,
    teller: Teller,
}

impl RawGateway {
    pub(crate) fn local(
        address: RpcAddress,
        interface: &'static InterfaceInfo,
        stamp: Stamp,
        registry: Arc<Registry>,
    ) -> RawGateway {
        RawGateway::new(address, interface, stamp, registry, None)
    }

    pub(crate) fn new(
        address: RpcAddress,
        interface: &'static InterfaceInfo,
        stamp: Stamp,
        registry: Arc<Registry>,
        link: Option<Arc<Link>>,
    ) -> RawGateway {
        let (election, seen) = match &stamp {
            Stamp::Unfenced => ("", None),
            Stamp::Fixed { cluster, election, .. } | Stamp::Own { cluster, election, .. } => {
                (election.as_str(), Some(registry.seen(*cluster, election)))
            }
        };
        let election = Arc::from(election);
        let endpoint = Arc::from(address.endpoint());
        let refusals = Refusals::default();
        let remote =
            link.map(|link| Remote { teller: Teller::new(link.clone(), refusals.clone(), seen.clone()), link });
        let inner = Inner { address, endpoint, interface, stamp, election, seen, refusals, registry, remote };
        RawGateway { inner: Arc::new(inner), limit: ASK }
    }

    /// `host:port/endpoint-id`.
    pub fn address(&self) -> &RpcAddress {
        &self.inner.address
    }

    /// The declaration of its methods.
    pub fn interface(&self) -> &'static InterfaceInfo {
        self.inner.interface
    }

    /// The tells of this gateway and its clones that were not handled.
    pub fn refusals(&self) -> &Refusals {
        &self.inner.refusals
    }

    /// The token that the next message would carry; `None` without one.
    pub fn token(&self) -> Option<Token> {
        match &self.inner.stamp {
            Stamp::Unfenced => None,
            Stamp::Fixed { token, .. } => Some(*token),
            Stamp::Own { source, .. } => source.token(),
        }
    }

    /// The same gateway with another time limit for its asks.
    #[must_use]
    pub fn within(&self, limit: Duration) -> RawGateway {
        RawGateway { inner: self.inner.clone(), limit }
    }

    /// Sends a tell; called by generated code with the method's place in the interface. An error means: surely not handled.
    pub fn tell<Q: Message + 'static>(&self, method: usize, request: Q) -> Result<(), RpcError> {
        let inner = &self.inner;
        let method = inner.interface.methods[method].name;
        let claim = self.claim()?;
        let Some(remote) = &inner.remote else {
            let (refusals, seen) = (inner.refusals.clone(), inner.seen.clone());
            let reply = ReplyTo::new(inner.endpoint.clone(), None, move |result| {
                if let Err(error) = result {
                    learn(seen.as_deref(), &error);
                    refusals.push(Refusal { method: method.to_owned(), error });
                }
            });
            let payload = Payload::Local(Box::new(request));
            let inbound = Inbound { claim, deadline: None, cancel: None, payload, reply };
            inner.registry.deliver(&inner.endpoint, inner.interface.name, method, inbound);
            return Ok(());
        };
        remote.teller.tell(self.outbound(method, claim, None), request.encode_to_vec())
    }

    /// Sends an ask and waits for its answer; called by generated code. Dropping the future cancels the call.
    pub async fn ask<Q, R>(&self, method: usize, request: Q) -> Result<R, RpcError>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let inner = &self.inner;
        let method = inner.interface.methods[method].name;
        let claim = self.claim()?;
        let answered = match &inner.remote {
            None => self.ask_here(method, claim, request).await,
            Some(Remote { link, .. }) => {
                let outbound = self.outbound(method, claim, Some(self.limit));
                link.ask(outbound, request.encode_to_vec(), self.limit).await
            }
        };
        match answered {
            Ok(payload) => payload.take().map_err(|why| RpcError::BadReply { why }),
            Err(error) => {
                learn(inner.seen.as_deref(), &error);
                Err(error)
            }
        }
    }

    async fn ask_here<Q: Message + 'static>(
        &self,
        method: &'static str,
        claim: Claim,
        request: Q,
    ) -> Result<Payload, RpcError> {
        let inner = &self.inner;
        let world = &inner.registry.world;
        let (sender, answer) = oneshot::channel();
        let reply = ReplyTo::new(inner.endpoint.clone(), None, move |result| {
            // The caller may have given up.
            let _ = sender.send(result);
        });
        let cancel = Arc::new(Cancel::default());
        let _cancels = CancelOnDrop(cancel.clone());
        let inbound = Inbound {
            claim,
            deadline: Some(world.now().saturating_add(self.limit)),
            cancel: Some(cancel),
            payload: Payload::Local(Box::new(request)),
            reply,
        };
        inner.registry.deliver(&inner.endpoint, inner.interface.name, method, inbound);
        match world.timeout(self.limit, answer).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(RpcError::EndpointGone),
            None => Err(RpcError::TimedOut { limit: self.limit }),
        }
    }

    fn outbound(&self, method: &'static str, claim: Claim, limit: Option<Duration>) -> Outbound {
        let inner = &self.inner;
        Outbound { endpoint: inner.endpoint.clone(), interface: inner.interface.name, method, claim, limit }
    }

    /// The fence of the next message. Rule: never a lower token than this process has seen.
    fn claim(&self) -> Result<Claim, RpcError> {
        let (cluster, token) = match &self.inner.stamp {
            Stamp::Unfenced => return Ok(Claim::none()),
            Stamp::Fixed { cluster, token, .. } => (*cluster, *token),
            Stamp::Own { cluster, source, .. } => (*cluster, source.token().ok_or(RpcError::NotLeading)?),
        };
        if let Some(seen) = &self.inner.seen
            && let Err(higher) = Registry::note(seen, token)
        {
            return Err(RpcError::Stale { current: Some(higher), leader: None });
        }
        Ok(Claim { cluster: Some(cluster), election: self.inner.election.clone(), token: Some(token) })
    }
}

/// A refusal for a later leader is news for every gateway of that election.
pub(crate) fn learn(seen: Option<&AtomicU64>, error: &RpcError) {
    if let (Some(seen), RpcError::Stale { current: Some(current), .. }) = (seen, error) {
        // A higher one may have been seen meanwhile: fine.
        let _ = Registry::note(seen, *current);
    }
}

/// Tells the endpoint when the caller is gone.
pub(crate) struct CancelOnDrop(pub(crate) Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl std::fmt::Debug for RawGateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({}, {:?})", self.inner.interface.name, self.inner.address, self.inner.stamp)
    }
}
