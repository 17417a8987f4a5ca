//! The loop of one endpoint: one message at a time, each judged again when its turn comes ([`calls`]). Each arm is one call.
//!
//! Keeps true: the state is touched only in synchronous steps; before each step its guard is checked; before the first message
//! under a higher token runs, everything that runs under lower ones has been dropped.

mod calls;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use palisade_fence::LeaderView;
use palisade_planted::{self as planted, Bug};
use palisade_world::Task;
use tokio::sync::{oneshot, watch};

use crate::codegen::Handler;
use crate::context::{Context, Resumed, Scope};
use crate::endpoint::EndpointShared;
use crate::fencing::Fencing;
use crate::mailbox::Inbox;
use crate::recipient::{Call, Mail};
use crate::{Answer, EndpointFailure, EndpointHandle, Life, RpcEndpoint, RpcError, Served};

/// How long a read of the election may take that confirms a higher token. Two heartbeats of the store are 200 ms; a store
/// election takes up to a second.
const CONFIRM: Duration = Duration::from_secs(1);

/// Messages that are taken one after the other before the loop looks at everything else again: it has a price that they share.
const TURN: usize = 64;

/// Messages after which the loop lets others of its thread have their turn.
const YIELD: usize = 512;

/// A synchronous step on the state.
pub(crate) type Step<E> = Box<dyn FnOnce(&mut E, &mut Context<E>) + Send>;

type Read = BoxFuture<'static, (usize, Result<LeaderView, String>)>;

/// Messages under a token that is higher than the guard, while the election is asked.
struct Parked {
    /// Waited when the read began: its result is final for them.
    asked: VecDeque<Call>,
    /// Came later: they may know more than the read.
    since: VecDeque<Call>,
}

pub(crate) struct Actor<E: RpcEndpoint> {
    state: E,
    cx: Context<E>,
    handlers: Vec<Arc<[Handler<E>]>>,
    mail: Inbox<Mail<E>>,
    /// Taken since others had their turn.
    streak: usize,
    parked: BTreeMap<usize, Parked>,
    reads: FuturesUnordered<Read>,
    /// How often the guards had risen when lower tokens were last dropped.
    purged_at: u64,
    raised: Option<watch::Receiver<u64>>,
    replaced: Option<watch::Receiver<Option<LeaderView>>>,
    starting: Option<oneshot::Receiver<Result<(), RpcError>>>,
    stopping: Option<oneshot::Receiver<Result<(), RpcError>>>,
    desired: watch::Receiver<Life>,
    end: Option<Result<(), EndpointFailure>>,
    _follower: Option<Task<()>>,
    /// The last field: when the end is told, the state and all that ran are gone, also when the task was aborted.
    _last_word: LastWord,
}

/// What the loop waits for.
enum Event<E: RpcEndpoint> {
    Desired,
    Replaced,
    Raised,
    Started(Result<(), RpcError>),
    Stopped(Result<(), RpcError>),
    Read(usize, Result<LeaderView, String>),
    Resumed(Resumed<E>),
    Mail(Mail<E>),
}

impl<E: RpcEndpoint> Actor<E> {
    pub(crate) fn new(state: E, handle: EndpointHandle<E>, served: Vec<Served<E>>, mail: Inbox<Mail<E>>) -> Actor<E> {
        let shared = handle.shared.clone();
        let replaced = match &*shared.fencing {
            Fencing::Leader(leader) => Some(leader.replaced.subscribe()),
            Fencing::Open | Fencing::Worker(_) => None,
        };
        let follower = matches!(&*shared.fencing, Fencing::Leader(leader) if leader.seat.source.is_some())
            .then(|| shared.world.spawn("leadership follower", follow(shared.clone())));
        Actor {
            state,
            handlers: served.into_iter().map(|table| table.handlers).collect(),
            mail,
            streak: 0,
            parked: BTreeMap::new(),
            reads: FuturesUnordered::new(),
            purged_at: 0,
            raised: shared.fencing.guards().map(crate::Guards::watch),
            replaced,
            starting: None,
            stopping: None,
            desired: shared.desired.subscribe(),
            end: None,
            _follower: follower,
            _last_word: LastWord(shared, handle.registry.clone()),
            cx: Context { handle, scope: Scope::default(), running: FuturesUnordered::new() },
        }
    }

    /// Until the endpoint has ended.
    pub(crate) async fn run(mut self) {
        // An endpoint may have been asked to start before its task first ran.
        self.on_desired();
        while self.end.is_none() {
            if self.streak >= YIELD {
                self.streak = 0;
                tokio::task::yield_now().await;
            }
            match self.next_event().await {
                Event::Desired => self.on_desired(),
                Event::Replaced => self.on_replaced(),
                Event::Raised => self.on_raised(),
                Event::Started(result) => self.on_started(result),
                Event::Stopped(result) => self.end = Some(result.map_err(EndpointFailure::Stop)),
                Event::Read(guard, view) => self.on_read(guard, view),
                Event::Resumed(resumed) => self.on_resumed(resumed),
                Event::Mail(mail) => self.on_mail(mail),
            }
        }
        self.finish();
    }

    /// Takes this one and others that wait, until there is something else to look at.
    fn on_mail(&mut self, first: Mail<E>) {
        self.take_mail(first);
        for _ in 1..TURN {
            // One at a time on the way down: the next may be one too many.
            let stopping = self.stopping.is_some() && !planted::is(Bug::MessageAfterStop);
            if self.end.is_some() || stopping || self.desired.has_changed().unwrap_or(true) {
                return;
            }
            let Some(next) = self.mail.try_next() else { return };
            self.take_mail(next);
        }
    }

    fn take_mail(&mut self, mail: Mail<E>) {
        self.streak += 1;
        match mail {
            Mail::Call(call) => self.on_call(call),
            Mail::Step(step) => self.step(Scope::default(), step),
        }
    }

    fn shared(&self) -> &Arc<EndpointShared> {
        self.cx.shared()
    }

    async fn next_event(&mut self) -> Event<E> {
        if self.stopping.is_some() && !planted::is(Bug::MessageAfterStop) {
            // On the way down what `on_stop` waits for goes before messages: after it none is taken.
            if let Some(result) = answered(&mut self.stopping).now_or_never() {
                return Event::Stopped(result);
            }
            if let Some(Some(resumed)) = self.cx.running.next().now_or_never() {
                return Event::Resumed(resumed);
            }
        }
        let served = self.starting.is_none() && *self.shared().life.borrow() != Life::Stopped;
        tokio::select! {
            Ok(()) = self.desired.changed() => Event::Desired,
            () = changed(&mut self.replaced) => Event::Replaced,
            () = changed(&mut self.raised) => Event::Raised,
            result = answered(&mut self.starting) => Event::Started(result),
            result = answered(&mut self.stopping) => Event::Stopped(result),
            Some((guard, view)) = self.reads.next(), if !self.reads.is_empty() => Event::Read(guard, view),
            Some(resumed) = self.cx.running.next(), if !self.cx.running.is_empty() => Event::Resumed(resumed),
            mail = self.mail.next(), if served => Event::Mail(mail),
        }
    }

    // --- life ---

    fn on_desired(&mut self) {
        let desired = *self.desired.borrow_and_update();
        let life = *self.shared().life.borrow();
        match (desired, life) {
            (Life::Started, Life::Stopped) if self.starting.is_none() => {
                let (sender, answer) = oneshot::channel();
                self.starting = Some(answer);
                self.life_step(sender, E::on_start);
            }
            // Never started: nothing to stop.
            (Life::Terminated, Life::Stopped) if self.starting.is_none() => self.end = Some(Ok(())),
            (Life::Terminated, Life::Started) => {
                self.shared().life.send_replace(Life::Terminating);
                let (sender, answer) = oneshot::channel();
                self.stopping = Some(answer);
                self.life_step(sender, E::on_stop);
            }
            _ => {}
        }
    }

    /// Takes `on_start` or `on_stop`, whose answer comes back as an event.
    fn life_step(
        &mut self,
        sender: oneshot::Sender<Result<(), RpcError>>,
        step: fn(&mut E, &mut Context<E>) -> Answer<()>,
    ) {
        self.step(
            Scope::default(),
            Box::new(move |state, cx| {
                step(state, cx).deliver(move |result| {
                    // The loop waits for it, or has ended.
                    let _ = sender.send(result);
                });
            }),
        );
    }

    fn on_started(&mut self, result: Result<(), RpcError>) {
        match result {
            Ok(()) => {
                self.shared().life.send_replace(Life::Started);
                // It may have been asked to stop meanwhile.
                self.on_desired();
            }
            Err(error) => self.end = Some(Err(EndpointFailure::Start(error))),
        }
    }

    fn on_replaced(&mut self) {
        let Some(view) = self.replaced.as_mut().and_then(|replaced| replaced.borrow_and_update().clone()) else {
            return;
        };
        tracing::info!(endpoint = %self.shared().id, by = ?view.token, "a later leadership exists");
        if *self.shared().life.borrow() == Life::Started {
            self.step(Scope::default(), Box::new(move |state, cx| state.on_replaced(cx, &view)));
        }
    }

    /// Answers all that is left, then makes the end known.
    fn finish(&mut self) {
        let end = self.end.take().unwrap_or(Err(EndpointFailure::Dropped));
        if let Err(failure) = &end {
            tracing::warn!(endpoint = %self.shared().id, %failure, "endpoint ended");
        }
        let error = match &end {
            Err(EndpointFailure::Panicked(why)) => RpcError::EndpointFailed { why: why.clone() },
            _ => RpcError::EndpointGone,
        };
        for running in std::mem::take(&mut self.cx.running) {
            if let Some(waiter) = running.waiter {
                waiter.fail(error.clone());
            }
        }
        // Dropped messages answer for themselves: not handled.
        self.mail.end();
        self.parked.clear();
        // A failed start or a stop that was never asked for: the first word stands.
        let _ = self.shared().end.set(end);
    }

    // --- steps ---

    fn step(&mut self, scope: Scope, step: Step<E>) {
        self.take_step(scope, |state, cx, _| step(state, cx));
    }

    fn take_step(&mut self, scope: Scope, step: impl FnOnce(&mut E, &mut Context<E>, &[Arc<[Handler<E>]>])) {
        self.cx.scope = scope;
        let Actor { state, cx, handlers, .. } = self;
        let taken = catch_unwind(AssertUnwindSafe(|| step(state, cx, handlers)));
        self.cx.scope = Scope::default();
        if let Err(panic) = taken {
            self.end = Some(Err(EndpointFailure::Panicked(panic_text(&*panic))));
        }
    }
}

/// Takes the endpoint off the books however its task ends: by its own end, or aborted with its service.
struct LastWord(Arc<EndpointShared>, Arc<crate::registry::Registry>);

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.fencing.close();
        self.1.remove(&self.0);
        let _ = self.0.end.set(Err(EndpointFailure::Dropped));
        self.0.life.send_replace(Life::Terminated);
    }
}

/// A leader's endpoint learns that it was replaced: from the observe stream, or from a read after somebody called with a
/// higher token.
async fn follow(shared: Arc<EndpointShared>) {
    let Fencing::Leader(leader) = &*shared.fencing else { return };
    let Some(source) = &leader.seat.source else { return };
    let mut seen = 0;
    loop {
        let view = tokio::select! {
            view = source.changed(seen) => {
                seen = view.seq.max(1); // zero would ask for any view again
                Some(view)
            }
            () = leader.suspected.notified() => {
                shared.world.timeout(CONFIRM, source.read()).await.and_then(Result::ok)
            }
        };
        if let Some(view) = view {
            leader.consider(&view);
        }
    }
}

/// The text of a panic, if it was text.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no message)".to_owned())
}

async fn changed<T>(receiver: &mut Option<watch::Receiver<T>>) {
    let open = match receiver {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => false,
    };
    if !open {
        std::future::pending().await
    }
}

/// Waits for the answer of `on_start` or `on_stop` and forgets the receiver.
async fn answered(waiting: &mut Option<oneshot::Receiver<Result<(), RpcError>>>) -> Result<(), RpcError> {
    let Some(receiver) = waiting else { return std::future::pending().await };
    let result = receiver.await.unwrap_or(Err(RpcError::EndpointGone));
    *waiting = None;
    result
}
