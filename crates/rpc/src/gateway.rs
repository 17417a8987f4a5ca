//! The untyped half of a gateway: stamps, sends, waits. Keeps true: it never sends under a lower token than this process has
//! seen; every tell that is refused ends in its [`Refusals`].

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use palisade_fence::Token;
use prost::Message;
use tokio::sync::oneshot;

use crate::inbound::{Cancel, Claim, Inbound, Payload, ReplyTo, Sink};
use crate::interface::Lane;
use crate::registry::Registry;
use crate::tells::Tells;
use crate::transport::{Link, Sender};
use crate::{Context, InterfaceInfo, MethodInfo, Refusals, RpcAddress, RpcEndpoint, RpcError, Stamp};

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
    tells: Arc<Tells>,
    registry: Arc<Registry>,
    /// `None`: within this process.
    remote: Option<Sender>,
}

impl RawGateway {
    /// `window`: how many tells may be unhandled.
    pub(crate) fn new(
        address: RpcAddress,
        interface: &'static InterfaceInfo,
        stamp: Stamp,
        registry: Arc<Registry>,
        link: Option<Arc<Link>>,
        window: u64,
    ) -> RawGateway {
        let (cluster, election, seen) = match &stamp {
            Stamp::Unfenced => (None, "", None),
            Stamp::Fixed { cluster, election, .. } | Stamp::Own { cluster, election, .. } => {
                (Some(*cluster), election.as_str(), Some(registry.seen(*cluster, election)))
            }
        };
        let election: Arc<str> = Arc::from(election);
        let endpoint: Arc<str> = Arc::from(address.endpoint());
        let tells = Arc::new(Tells::new(seen.clone(), window));
        let remote =
            link.map(|link| Sender::new(link, endpoint.clone(), interface, cluster, election.clone(), tells.clone()));
        let inner = Inner { address, endpoint, interface, stamp, election, seen, tells, registry, remote };
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
        &self.inner.tells.refusals
    }

    /// The token that the next message would carry; `None` without one.
    pub fn token(&self) -> Option<Token> {
        match &self.inner.stamp {
            Stamp::Unfenced => None,
            Stamp::Fixed { token, .. } => Some(*token),
            Stamp::Own { source, .. } => source.token(),
        }
    }

    /// How long an ask of this gateway waits for its answer.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// The same gateway with another time limit for its asks.
    #[must_use]
    pub fn within(&self, limit: Duration) -> RawGateway {
        RawGateway { inner: self.inner.clone(), limit }
    }

    /// The same gateway for asks on behalf of the call that `cx` handles: none of them waits longer than its caller does.
    /// Await them through [`Context::then`], and they are cancelled with it.
    #[must_use]
    pub fn within_call<E: RpcEndpoint>(&self, cx: &Context<E>) -> RawGateway {
        let deadline = cx.call().and_then(|call| call.deadline);
        let left = deadline.map(|deadline| deadline.saturating_sub(self.inner.registry.world.now()));
        self.within(left.map_or(self.limit, |left| left.min(self.limit)))
    }

    /// Resolves when a tell would not be refused here as `Overloaded`: the endpoint has taken enough of the earlier ones, and
    /// what waits for the connection has room. Clones of the gateway may take that room.
    pub async fn ready(&self) -> Result<(), RpcError> {
        self.inner.tells.window(Lane::Work).room().await;
        match &self.inner.remote {
            Some(sender) => sender.link.room(Lane::Work).await,
            None => Ok(()),
        }
    }

    /// Sends a tell; called by generated code with the method's place in the interface. An error means: surely not handled.
    pub fn tell<Q: Message + 'static>(&self, method: usize, request: Q) -> Result<(), RpcError> {
        let inner = &self.inner;
        let token = self.stamp()?;
        if let Some(sender) = &inner.remote {
            return sender.link.tell(sender, method, token, &request);
        }
        let info = &inner.interface.methods[method];
        let payload = self.payload_here(request)?;
        inner.tells.window(info.lane).take()?;
        let reply = ReplyTo::with(inner.endpoint.clone(), None, Sink::Told(inner.tells.clone(), info));
        let inbound = Inbound { claim: self.claim(token), deadline: None, cancel: None, payload, reply };
        inner.registry.deliver(&inner.endpoint, inner.interface.name, info.name, inbound);
        Ok(())
    }

    /// Sends an ask and waits for its answer; called by generated code. Dropping the future cancels the call.
    pub async fn ask<Q, R>(&self, method: usize, request: Q) -> Result<R, RpcError>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let inner = &self.inner;
        let token = self.stamp()?;
        let answered = match &inner.remote {
            None => self.ask_here(&inner.interface.methods[method], token, request).await,
            Some(sender) => sender.link.ask(sender, method, token, &request, self.limit).await,
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
        method: &'static MethodInfo,
        token: Option<Token>,
        request: Q,
    ) -> Result<Payload, RpcError> {
        let inner = &self.inner;
        let world = &inner.registry.world;
        let payload = self.payload_here(request)?;
        let (sender, answer) = oneshot::channel();
        let reply = ReplyTo::with(inner.endpoint.clone(), inner.registry.serialize, Sink::Waiter(sender));
        let cancel = Arc::new(Cancel::default());
        let _cancels = CancelOnDrop(cancel.clone());
        let deadline = Some(world.now().saturating_add(self.limit));
        let inbound = Inbound { claim: self.claim(token), deadline, cancel: Some(cancel), payload, reply };
        inner.registry.deliver(&inner.endpoint, inner.interface.name, method.name, inbound);
        match world.timeout(self.limit, answer).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(RpcError::EndpointGone),
            None => Err(RpcError::TimedOut { limit: self.limit }),
        }
    }

    /// The message itself, unless the service was asked to serialize always.
    fn payload_here<Q: Message + 'static>(&self, request: Q) -> Result<Payload, RpcError> {
        match self.inner.registry.serialize {
            None => Ok(Payload::Local(Box::new(request))),
            Some(limit) if request.encoded_len() > limit => {
                Err(RpcError::TooLarge { size: request.encoded_len() as u64, limit: limit as u64 })
            }
            Some(_) => Ok(Payload::Encoded(request.encode_to_vec().into())),
        }
    }

    /// The token of the next message. Rule: never a lower one than this process has seen.
    fn stamp(&self) -> Result<Option<Token>, RpcError> {
        let token = match &self.inner.stamp {
            Stamp::Unfenced => return Ok(None),
            Stamp::Fixed { token, .. } => *token,
            Stamp::Own { source, .. } => source.token().ok_or(RpcError::NotLeading)?,
        };
        if let Some(seen) = &self.inner.seen
            && let Err(higher) = Registry::note(seen, token)
        {
            return Err(RpcError::Stale { current: Some(higher), leader: None });
        }
        Ok(Some(token))
    }

    fn claim(&self, token: Option<Token>) -> Claim {
        let cluster = match &self.inner.stamp {
            Stamp::Unfenced => None,
            Stamp::Fixed { cluster, .. } | Stamp::Own { cluster, .. } => Some(*cluster),
        };
        Claim { cluster, election: self.inner.election.clone(), token }
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
