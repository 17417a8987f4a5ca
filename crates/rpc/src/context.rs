//! What a step can reach besides the state: later steps, timers, its call. Keeps true: a later step that belongs to a call runs
//! under the call's guard, or not at all.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use palisade_fence::{ClusterId, Token};
use palisade_world::World;

use crate::actor::Step;
use crate::answer::{Fail, Form, Slot};
use crate::endpoint::EndpointShared;
use crate::fencing::Fencing;
use crate::guards::Held;
use crate::inbound::Cancel;
use crate::{Answer, ConnectError, EndpointHandle, Life, RpcAddress, RpcEndpoint, RpcError, RpcGateway};

/// Awaits under way at one endpoint; beyond it further calls are answered `Overloaded`. A job's result may be awaited by
/// thousands of clients; more than this is a leak.
pub(crate) const MAX_RUNNING: usize = 16_384;

/// The call that a step belongs to.
#[derive(Clone, Debug)]
pub struct CallInfo {
    /// The cluster, as the message named it; `None`: the receiver's own.
    pub cluster: Option<ClusterId>,
    /// Name of the election; empty for a message without one.
    pub election: Arc<str>,
    /// The message's token.
    pub token: Option<Token>,
    /// When the caller gives up, on the world's clock.
    pub deadline: Option<Duration>,
}

/// What a later step inherits from the one that asked for it.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    pub(crate) held: Option<Held>,
    pub(crate) cancel: Option<Arc<Cancel>>,
    pub(crate) call: Option<CallInfo>,
}

impl Scope {
    /// The guard without the call: for work that goes on after the answer.
    fn guard_only(&self) -> Scope {
        Scope { held: self.held, ..Scope::default() }
    }
}

/// Something awaited, and what happens then.
pub(crate) struct Running<E: RpcEndpoint> {
    pub(crate) scope: Scope,
    /// To be told if there will be no answer.
    pub(crate) waiter: Option<Arc<dyn Fail>>,
    future: BoxFuture<'static, Result<Step<E>, RpcError>>,
}

/// How an await ended.
pub(crate) struct Resumed<E: RpcEndpoint> {
    pub(crate) scope: Scope,
    pub(crate) waiter: Option<Arc<dyn Fail>>,
    /// `Err(Ok(_))`: given up. `Err(Err(_))`: the future panicked.
    pub(crate) step: Result<Step<E>, Result<RpcError, String>>,
}

impl<E: RpcEndpoint> Future for Running<E> {
    type Output = Resumed<E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Resumed<E>> {
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.future.as_mut().poll(cx)));
        let step = match polled {
            Ok(std::task::Poll::Pending) => return std::task::Poll::Pending,
            Ok(std::task::Poll::Ready(step)) => step.map_err(Ok),
            Err(panic) => Err(Err(crate::actor::panic_text(&*panic))),
        };
        std::task::Poll::Ready(Resumed { scope: self.scope.clone(), waiter: self.waiter.take(), step })
    }
}

/// Handed to every step.
pub struct Context<E: RpcEndpoint> {
    pub(crate) handle: EndpointHandle<E>,
    pub(crate) scope: Scope,
    pub(crate) running: FuturesUnordered<Running<E>>,
}

impl<E: RpcEndpoint> Context<E> {
    /// Answers later: awaits `future`, which cannot touch the state, then takes `step`, guarded again. If a higher token is
    /// accepted before, or the caller's deadline passes, or the endpoint ends, the future is dropped, the step never runs, and
    /// the caller is told.
    pub fn then<F, R>(
        &mut self,
        future: F,
        step: impl FnOnce(&mut E, &mut Context<E>, F::Output) -> Answer<R> + Send + 'static,
    ) -> Answer<R>
    where
        F: Future + Send + 'static,
        F::Output: Send,
        R: Send + 'static,
    {
        let slot = Slot::new();
        let completed = slot.clone();
        let scope = self.scope.clone();
        let deadline = scope.call.as_ref().and_then(|call| call.deadline);
        let bound = bounded(self.world().clone(), deadline, scope.cancel.clone(), future);
        let future = bound.map(move |out| {
            out.map(|out| -> Step<E> {
                Box::new(move |state, cx| {
                    step(state, cx, out).deliver(move |result| completed.complete(result));
                })
            })
        });
        self.running.push(Running { scope, waiter: Some(slot.clone()), future: future.boxed() });
        Answer(Form::Later(slot))
    }

    /// Awaits `future` and takes `step` afterwards, under the same guard as the present step; no answer hangs on it.
    pub fn when<F>(&mut self, future: F, step: impl FnOnce(&mut E, &mut Context<E>, F::Output) + Send + 'static)
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let scope = self.scope.guard_only();
        self.later(scope, future, step);
    }

    /// As [`Context::when`], but as the endpoint's own work: it goes on under every later token, until the endpoint ends.
    pub fn when_own<F>(&mut self, future: F, step: impl FnOnce(&mut E, &mut Context<E>, F::Output) + Send + 'static)
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.later(Scope::default(), future, step);
    }

    /// Takes a step soon after this one, under the same guard.
    pub fn run_async(&mut self, step: impl FnOnce(&mut E, &mut Context<E>) + Send + 'static) {
        self.when(std::future::ready(()), |state, cx, ()| step(state, cx));
    }

    /// Takes a step after a span of the world's time, under the same guard: dropped with the token, or with the endpoint's
    /// incarnation.
    pub fn schedule(&mut self, after: Duration, step: impl FnOnce(&mut E, &mut Context<E>) + Send + 'static) -> Timer {
        let scope = self.scope.guard_only();
        self.schedule_in(scope, after, step)
    }

    /// As [`Context::schedule`], but as the endpoint's own work: dropped with the incarnation only.
    pub fn schedule_own(
        &mut self,
        after: Duration,
        step: impl FnOnce(&mut E, &mut Context<E>) + Send + 'static,
    ) -> Timer {
        self.schedule_in(Scope::default(), after, step)
    }

    fn schedule_in(
        &mut self,
        scope: Scope,
        after: Duration,
        step: impl FnOnce(&mut E, &mut Context<E>) + Send + 'static,
    ) -> Timer {
        let timer = Timer::default();
        let at = self.world().now().saturating_add(after);
        self.timer(scope, at, timer.clone(), step);
        timer
    }

    /// Takes a step every `period`, first after one period, as long as the guard of the present step stands. The next period
    /// begins when the step has ended.
    pub fn every(&mut self, period: Duration, step: impl FnMut(&mut E, &mut Context<E>) + Send + 'static) -> Timer {
        let timer = Timer::default();
        let scope = self.scope.guard_only();
        self.repeat(scope, period, timer.clone(), Box::new(step));
        timer
    }

    /// As [`Context::every`], but as the endpoint's own work.
    pub fn every_own(&mut self, period: Duration, step: impl FnMut(&mut E, &mut Context<E>) + Send + 'static) -> Timer {
        let timer = Timer::default();
        self.repeat(Scope::default(), period, timer.clone(), Box::new(step));
        timer
    }

    /// The endpoint from outside, for tasks and callbacks that come back through [`EndpointHandle::run_async`].
    pub fn handle(&self) -> EndpointHandle<E> {
        self.handle.clone()
    }

    /// A gateway to this very endpoint: what is sent through it waits in the mailbox like anything else, under the token of the
    /// present step. Without one, as in a worker's own work, a fenced endpoint refuses it.
    ///
    /// Fails if the endpoint does not serve that interface.
    pub fn self_gateway<G: RpcGateway>(&self) -> Result<G, ConnectError> {
        self.handle.gateway_under(self.scope.held)
    }

    /// `host:port/endpoint-id`.
    pub fn address(&self) -> RpcAddress {
        self.handle.address()
    }

    /// The door to clocks, randomness, sockets and tasks.
    pub fn world(&self) -> &World {
        &self.shared().world
    }

    /// The call that this step belongs to; `None` for the endpoint's own work.
    pub fn call(&self) -> Option<&CallInfo> {
        self.scope.call.as_ref()
    }

    /// The token that this step runs under: the leader's own, or the worker's guard at this message. `None` for work without.
    pub fn token(&self) -> Option<Token> {
        match &*self.shared().fencing {
            Fencing::Leader(leader) => Some(leader.seat.token),
            Fencing::Worker(_) => self.scope.held.map(|held| held.token),
            Fencing::Open => None,
        }
    }

    /// False once `on_stop` has begun.
    pub fn is_running(&self) -> bool {
        self.handle.life() == Life::Started
    }

    /// Asks the endpoint to stop after this step, as [`EndpointHandle::stop`] does.
    pub fn stop(&self) {
        self.handle.stop();
    }

    pub(crate) fn shared(&self) -> &Arc<EndpointShared> {
        &self.handle.shared
    }

    fn later<F>(
        &mut self,
        scope: Scope,
        future: F,
        step: impl FnOnce(&mut E, &mut Context<E>, F::Output) + Send + 'static,
    ) where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let future =
            future.map(|out| -> Result<Step<E>, RpcError> { Ok(Box::new(move |state, cx| step(state, cx, out))) });
        self.running.push(Running { scope, waiter: None, future: future.boxed() });
    }

    /// Takes a step at a moment of the world's clock, unless it is cancelled before.
    pub(crate) fn timer(
        &mut self,
        scope: Scope,
        at: Duration,
        timer: Timer,
        step: impl FnOnce(&mut E, &mut Context<E>) + Send + 'static,
    ) {
        let world = self.world().clone();
        let (left, cancelled) = (at.saturating_sub(world.now()), timer.clone());
        // A cancelled timer ends at once: what its step holds is not kept until the time has come.
        let due = async move {
            tokio::select! {
                () = cancelled.0.cancelled() => {}
                () = world.sleep(left) => {}
            }
        };
        self.later(scope, due, move |state, cx, ()| {
            if !timer.is_cancelled() {
                step(state, cx);
            }
        });
    }

    fn repeat(&mut self, scope: Scope, period: Duration, timer: Timer, mut step: Repeated<E>) {
        let at = self.world().now().saturating_add(period);
        let again = timer.clone();
        self.timer(scope, at, timer, move |state, cx| {
            step(state, cx);
            if !again.is_cancelled() {
                let scope = cx.scope.clone();
                cx.repeat(scope, period, again, step);
            }
        });
    }
}

type Repeated<E> = Box<dyn FnMut(&mut E, &mut Context<E>) + Send>;

/// Runs a call's future within the caller's patience.
async fn bounded<F: Future>(
    world: World,
    deadline: Option<Duration>,
    cancel: Option<Arc<Cancel>>,
    future: F,
) -> Result<F::Output, RpcError> {
    let expired = async {
        match deadline {
            Some(at) => world.sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    let cancelled = async {
        match &cancel {
            Some(cancel) => cancel.cancelled().await,
            None => std::future::pending().await,
        }
    };
    let begun = world.now();
    tokio::select! {
        biased;
        out = future => Ok(out),
        () = expired => Err(RpcError::TimedOut { limit: deadline.unwrap_or_default().saturating_sub(begun) }),
        () = cancelled => Err(RpcError::Cancelled),
    }
}

/// A scheduled step. Dropping it changes nothing; [`Timer::cancel`] keeps the step from running again.
#[derive(Clone, Default)]
pub struct Timer(Arc<Cancel>);

impl Timer {
    /// The step does not run any more. From within the endpoint that is certain; from outside it may be running.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_cancelled() { "Timer(cancelled)" } else { "Timer" })
    }
}
