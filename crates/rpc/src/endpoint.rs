//! What a user writes and holds: the endpoint's state with its life cycle, its builder, its handle.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use palisade_fence::LeaderView;
use palisade_world::World;
use tokio::sync::{oneshot, watch};

use crate::actor::{Actor, Step};
use crate::context::{Context, Scope, Timer};
use crate::fencing::{Fencing, SharedFencing};
use crate::guards::Held;
use crate::interface::Lane;
use crate::mailbox::{Mailbox, Refused, window};
use crate::recipient::{Mail, Recipient, Tallies};
use crate::registry::Registry;
use crate::{
    Answer, BadAddress, ConnectError, Guards, InterfaceInfo, LeaderSeat, RawGateway, RpcAddress, RpcError, RpcGateway,
    Served, Stamp,
};

/// Messages that wait for their turn at one endpoint; beyond it the answer is `Overloaded`. At 10 µs a step it is 10 ms of work.
pub(crate) const DEFAULT_MAILBOX: usize = 1024;

/// User state behind one mailbox. All methods are synchronous steps: nothing else touches the state while one runs.
pub trait RpcEndpoint: Sized + Send + 'static {
    /// Runs once, first. The endpoint counts as started, and is served, when the answer is there; a refusal or a panic ends
    /// it.
    fn on_start(&mut self, cx: &mut Context<Self>) -> Answer<()> {
        let _ = cx;
        Answer::ready(())
    }

    /// Runs once, when the endpoint is stopped after it was started. Until the answer is there the endpoint goes on being
    /// served; a leader's fence is closed before, so that it serves only its own work and the replies in flight.
    fn on_stop(&mut self, cx: &mut Context<Self>) -> Answer<()> {
        let _ = cx;
        Answer::ready(())
    }

    /// A leader's endpoint learns that a later leadership exists; its fence is closed already. Stop the components from here.
    fn on_replaced(&mut self, cx: &mut Context<Self>, by: &LeaderView) {
        let _ = (cx, by);
    }
}

/// Where an endpoint is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Life {
    /// Not started: every message is refused.
    Stopped,
    /// Served.
    Started,
    /// `on_stop` is pending; still served.
    Terminating,
    /// Gone.
    Terminated,
}

/// Why an endpoint did not end cleanly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFailure {
    /// `on_start` refused.
    #[error("the endpoint could not start: {0}")]
    Start(RpcError),
    /// `on_stop` refused; the endpoint is gone nevertheless.
    #[error("the endpoint did not stop cleanly: {0}")]
    Stop(RpcError),
    /// A step panicked.
    #[error("the endpoint panicked: {0}")]
    Panicked(String),
    /// It was to be started after it had been stopped: a new incarnation is needed.
    #[error("the endpoint has been stopped")]
    Stopped,
    /// Its service was dropped without being closed.
    #[error("the endpoint's service was dropped")]
    Dropped,
}

/// Why an endpoint could not be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The id cannot be one.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// An endpoint of that id has not terminated yet.
    #[error("endpoint '{0}' exists already")]
    Exists(String),
    /// The service is closed.
    #[error("the RPC service is closed")]
    Closed,
}

/// What an endpoint's task and those who bring messages share.
pub(crate) struct EndpointShared {
    pub(crate) id: Arc<str>,
    pub(crate) address: RpcAddress,
    pub(crate) interfaces: Vec<&'static InterfaceInfo>,
    pub(crate) fencing: SharedFencing,
    pub(crate) life: watch::Sender<Life>,
    pub(crate) end: OnceLock<Result<(), EndpointFailure>>,
    pub(crate) desired: watch::Sender<Life>,
    pub(crate) tallies: Tallies,
    pub(crate) mailbox: usize,
    pub(crate) world: World,
    /// Distinguishes incarnations of one id.
    pub(crate) incarnation: u64,
}

/// Settings of an endpoint. Made by [`crate::RpcService::endpoint`].
#[must_use = "call create"]
pub struct EndpointBuilder<E: RpcEndpoint> {
    pub(crate) registry: Arc<Registry>,
    pub(crate) id: String,
    pub(crate) state: E,
    pub(crate) served: Vec<Served<E>>,
    pub(crate) fencing: Fencing,
    pub(crate) mailbox: usize,
}

impl<E: RpcEndpoint> EndpointBuilder<E> {
    /// Adds a gateway that the endpoint answers: `ShopGateway::serve()`.
    pub fn serves(mut self, table: Served<E>) -> Self {
        self.served.push(table);
        self
    }

    /// Makes it a leader's endpoint: its token is fixed for its life.
    pub fn leads(mut self, seat: LeaderSeat) -> Self {
        self.fencing = Fencing::leader(seat);
        self
    }

    /// Makes it a worker's endpoint: it obeys the elections of these guards.
    pub fn guarded_by(mut self, guards: Guards) -> Self {
        self.fencing = Fencing::Worker(guards);
        self
    }

    /// Bounds the mailbox (default 1,024 messages).
    pub fn mailbox(mut self, messages: usize) -> Self {
        self.mailbox = messages.max(1);
        self
    }

    /// Creates the endpoint, stopped: it has its address, and refuses every message until [`EndpointHandle::start`].
    pub fn create(self) -> Result<EndpointHandle<E>, CreateError> {
        static INCARNATIONS: AtomicU64 = AtomicU64::new(1);

        let EndpointBuilder { registry, id, state, served, fencing, mailbox } = self;
        let address = RpcAddress::new(registry.node(), id)?;
        let (mail, received) = Mailbox::new(mailbox);
        let id: Arc<str> = Arc::from(address.endpoint());
        let shared = Arc::new(EndpointShared {
            tallies: Tallies::new(&registry.counters, &id, fencing.elections()),
            id,
            address,
            interfaces: served.iter().map(|table| table.interface).collect(),
            fencing: Arc::new(fencing),
            life: watch::Sender::new(Life::Stopped),
            end: OnceLock::new(),
            desired: watch::Sender::new(Life::Stopped),
            mailbox,
            world: registry.world.clone(),
            incarnation: INCARNATIONS.fetch_add(1, Ordering::Relaxed),
        });
        let handle = EndpointHandle { shared: shared.clone(), mail: mail.clone(), registry: registry.clone() };
        registry.add(Arc::new(Recipient { shared: shared.clone(), mail }))?;
        let actor = Actor::new(state, handle.clone(), served, received);
        registry.keep(shared.world.spawn("rpc endpoint", actor.run()));
        Ok(handle)
    }
}

/// Messages that wait in an endpoint's mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Ordinary ones, own steps included.
    pub work: usize,
    /// Control messages.
    pub control: usize,
}

/// An endpoint from outside; cheap to clone. Dropping it stops nothing: the service keeps its endpoints until they are stopped
/// or it is closed.
pub struct EndpointHandle<E: RpcEndpoint> {
    pub(crate) shared: Arc<EndpointShared>,
    pub(crate) mail: Arc<Mailbox<Mail<E>>>,
    pub(crate) registry: Arc<Registry>,
}

impl<E: RpcEndpoint> Clone for EndpointHandle<E> {
    fn clone(&self) -> Self {
        EndpointHandle { shared: self.shared.clone(), mail: self.mail.clone(), registry: self.registry.clone() }
    }
}

impl<E: RpcEndpoint> EndpointHandle<E> {
    /// `host:port/endpoint-id`.
    pub fn address(&self) -> RpcAddress {
        self.shared.address.clone()
    }

    /// What waits for its turn.
    pub fn waiting(&self) -> Waiting {
        let (work, control) = self.mail.waiting();
        Waiting { work, control }
    }

    /// Where it is in its life.
    pub fn life(&self) -> Life {
        *self.shared.life.borrow()
    }

    /// Starts it and waits until `on_start` has ended. Starting a started endpoint does nothing; one that was stopped is not
    /// started again.
    pub async fn start(&self) -> Result<(), EndpointFailure> {
        self.want(Life::Started);
        let mut life = self.shared.life.subscribe();
        // The sender lives in `shared`, which we hold.
        let reached = *life.wait_for(|life| *life >= Life::Started).await.expect("the endpoint's life has its sender");
        match reached {
            Life::Terminated => match self.shared.end.get() {
                Some(Err(failure)) => Err(failure.clone()),
                Some(Ok(())) => Err(EndpointFailure::Stopped),
                None => Err(EndpointFailure::Dropped),
            },
            Life::Terminating => Err(EndpointFailure::Stopped),
            Life::Stopped | Life::Started => Ok(()),
        }
    }

    /// Closes a leader's fence for good, at once: from now on fenced calls from outside are answered `NotLeader`.
    pub fn close_fence(&self) {
        self.shared.fencing.close();
    }

    /// Asks it to stop and returns at once: a leader's fence is closed already then, and `on_stop` runs next. An endpoint that was never started
    /// ends without it. See [`EndpointHandle::terminated`].
    pub fn stop(&self) {
        self.want(Life::Terminated);
    }

    /// Resolves when the endpoint is gone, with what ended it. Cancelling it changes nothing.
    pub async fn terminated(&self) -> Result<(), EndpointFailure> {
        let mut life = self.shared.life.subscribe();
        life.wait_for(|life| *life == Life::Terminated).await.expect("the endpoint's life has its sender");
        self.shared.end.get().cloned().unwrap_or(Err(EndpointFailure::Dropped))
    }

    /// Resolves when a leader's endpoint has learnt of a later leadership. Never, for others.
    pub async fn replaced(&self) -> LeaderView {
        let Fencing::Leader(leader) = &*self.shared.fencing else { return std::future::pending().await };
        let mut replaced = leader.replaced.subscribe();
        let view = replaced.wait_for(Option::is_some).await.expect("the fence has its sender");
        view.clone().expect("waited for it")
    }

    /// Queues a step of the endpoint's own: it runs under no token, after what waits in the mailbox.
    pub fn run_async(&self, step: impl FnOnce(&mut E, &mut Context<E>) + Send + 'static) -> Result<(), RpcError> {
        self.queue(Box::new(step))
    }

    /// Queues a step of the endpoint's own and waits for what it returns. Dropping the future does not undo the step.
    pub async fn call_async<R: Send + 'static>(
        &self,
        limit: Duration,
        step: impl FnOnce(&mut E, &mut Context<E>) -> R + Send + 'static,
    ) -> Result<R, RpcError> {
        let (sender, answer) = oneshot::channel();
        self.queue(Box::new(move |state, cx| {
            // The caller may have gone: then nobody wants the value.
            let _ = sender.send(step(state, cx));
        }))?;
        match self.shared.world.timeout(limit, answer).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(_)) => Err(RpcError::EndpointGone),
            None => Err(RpcError::TimedOut { limit }),
        }
    }

    /// Queues a step of the endpoint's own that is taken `after` a span of the world's time from now, not earlier. It is dropped
    /// with this incarnation of the endpoint; a timer that is cancelled in time never takes it.
    pub fn schedule_run_async(
        &self,
        after: Duration,
        step: impl FnOnce(&mut E, &mut Context<E>) + Send + 'static,
    ) -> Result<Timer, RpcError> {
        let (timer, at) = (Timer::default(), self.shared.world.now().saturating_add(after));
        let own = timer.clone();
        self.queue(Box::new(move |_, cx| cx.timer(Scope::default(), at, own, step)))?;
        Ok(timer)
    }

    /// A gateway to this endpoint within the process, without a handshake.
    pub fn gateway<G: RpcGateway>(&self, stamp: Stamp) -> G {
        let (address, registry, window) = (self.address(), self.registry.clone(), window(self.mail.limit()));
        G::from_raw(RawGateway::new(address, G::INTERFACE, stamp, registry, None, window))
    }

    /// A gateway to this endpoint under its own fence: a leader's token. A worker has none of its own: it uses
    /// [`Context::self_gateway`] in a step. Fails if the endpoint does not serve that interface.
    pub fn self_gateway<G: RpcGateway>(&self) -> Result<G, ConnectError> {
        self.gateway_under(None)
    }

    pub(crate) fn gateway_under<G: RpcGateway>(&self, held: Option<Held>) -> Result<G, ConnectError> {
        if !self.shared.interfaces.iter().any(|info| info.name == G::INTERFACE.name) {
            let why = format!("it does not serve {}", G::INTERFACE.name);
            return Err(ConnectError::Handshake { address: self.address().to_string(), why });
        }
        let stamp = match &*self.shared.fencing {
            Fencing::Leader(leader) => {
                Stamp::fixed(leader.seat.cluster, leader.seat.election.clone(), leader.seat.token)
            }
            Fencing::Worker(guards) => {
                let known = held.and_then(|held| Some((held, guards.cluster(held.guard)?)));
                known.map_or(Stamp::Unfenced, |(held, cluster)| {
                    Stamp::fixed(cluster, &**guards.election(held.guard), held.token)
                })
            }
            Fencing::Open => Stamp::Unfenced,
        };
        Ok(self.gateway(stamp))
    }

    fn queue(&self, step: Step<E>) -> Result<(), RpcError> {
        let gone = || RpcError::NoSuchEndpoint { endpoint: self.shared.id.to_string() };
        match self.life() {
            Life::Stopped => return Err(RpcError::NotStarted),
            Life::Terminated => return Err(gone()),
            Life::Started | Life::Terminating => {}
        }
        self.mail.push(Lane::Work, Mail::Step(step), 0).map_err(|refused| match refused {
            Refused::Full { limit, .. } => RpcError::Overloaded { limit: limit as u64 },
            Refused::Ended(_) => gone(),
        })
    }

    fn want(&self, life: Life) {
        self.shared.want(life);
    }
}

impl EndpointShared {
    /// Only forward: a stopped endpoint is not started again, a new incarnation is.
    pub(crate) fn want(&self, life: Life) {
        if life == Life::Terminated {
            // The first thing on the way down, and not when its turn comes.
            self.fencing.close();
        }
        self.desired.send_if_modified(|desired| {
            let forward = life > *desired;
            if forward {
                *desired = life;
            }
            forward
        });
    }
}
