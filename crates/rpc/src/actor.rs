//! The loop of one endpoint: one message at a time, each judged again when its turn comes. Each arm is one call.
//!
//! Keeps true: the state is touched only in synchronous steps; before each step its guard is checked; before the first message
//! under a higher token runs, everything that runs under lower ones has been dropped.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use palisade_fence::{LeaderView, source::Unreachable};
use palisade_planted::{self as planted, Bug};
use palisade_world::Task;
use tokio::sync::{mpsc, oneshot, watch};

use crate::codegen::Handler;
use crate::context::{Context, MAX_RUNNING, Resumed, Running, Scope};
use crate::endpoint::EndpointShared;
use crate::fencing::{Fencing, Verdict};
use crate::guards::Held;
use crate::inbound::Inbound;
use crate::recipient::{Call, Mail};
use crate::{Answer, AnswerKind, CallInfo, EndpointFailure, EndpointHandle, Life, RpcEndpoint, RpcError, Served};

/// How long a read of the election may take that confirms a higher token. Two heartbeats of the store are 200 ms; a store
/// election takes up to a second.
const CONFIRM: Duration = Duration::from_secs(1);

/// Messages that wait for one confirmation. A forged token must not hold more of the mailbox than this.
const MAX_PARKED: usize = 256;

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
    mail: mpsc::Receiver<Mail<E>>,
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
    Mail(Option<Mail<E>>),
}

impl<E: RpcEndpoint> Actor<E> {
    pub(crate) fn new(
        state: E,
        handle: EndpointHandle<E>,
        served: Vec<Served<E>>,
        mail: mpsc::Receiver<Mail<E>>,
    ) -> Actor<E> {
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
            cx: Context { handle, scope: Scope::default(), running: FuturesUnordered::new() },
        }
    }

    /// Until the endpoint has ended.
    pub(crate) async fn run(mut self) {
        let last_word = LastWord(self.shared().clone(), self.cx.handle.registry.clone());
        // An endpoint may have been asked to start before its task first ran.
        self.on_desired();
        while self.end.is_none() {
            match self.next_event().await {
                Event::Desired => self.on_desired(),
                Event::Replaced => self.on_replaced(),
                Event::Raised => self.on_raised(),
                Event::Started(result) => self.on_started(result),
                Event::Stopped(result) => self.end = Some(result.map_err(EndpointFailure::Stop)),
                Event::Read(guard, view) => self.on_read(guard, view),
                Event::Resumed(resumed) => self.on_resumed(resumed),
                Event::Mail(Some(Mail::Call(call))) => self.on_call(call),
                Event::Mail(Some(Mail::Step(step))) => self.step(Scope::default(), step),
                // Unreachable while we hold a handle; ending is the safe reading.
                Event::Mail(None) => self.end = Some(Err(EndpointFailure::Dropped)),
            }
        }
        self.finish();
        drop(last_word);
    }

    fn shared(&self) -> &Arc<EndpointShared> {
        self.cx.shared()
    }

    async fn next_event(&mut self) -> Event<E> {
        let served = self.starting.is_none() && *self.shared().life.borrow() != Life::Stopped;
        tokio::select! {
            Ok(()) = self.desired.changed() => Event::Desired,
            () = changed(&mut self.replaced) => Event::Replaced,
            () = changed(&mut self.raised) => Event::Raised,
            result = answered(&mut self.starting) => Event::Started(result),
            result = answered(&mut self.stopping) => Event::Stopped(result),
            Some((guard, view)) = self.reads.next(), if !self.reads.is_empty() => Event::Read(guard, view),
            Some(resumed) = self.cx.running.next(), if !self.cx.running.is_empty() => Event::Resumed(resumed),
            mail = self.mail.recv(), if served => Event::Mail(mail),
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
                self.shared().fencing.close();
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
        self.mail.close();
        // Dropped messages answer for themselves: not handled.
        while self.mail.try_recv().is_ok() {}
        self.parked.clear();
        // A failed start or a stop that was never asked for: the first word stands.
        let _ = self.shared().end.set(end);
    }

    // --- messages ---

    fn on_call(&mut self, call: Call) {
        if let Some(refusal) = self.no_longer_wanted(&call.inbound) {
            return self.shared().refuse(call.inbound, refusal);
        }
        let mut verdict = self.check_at_dequeue(&call.inbound);
        if matches!(verdict, Verdict::Admit(_)) && !self.parked.is_empty() {
            // Its guard may have risen by the stream while earlier messages of the same sender wait for a read: they go first.
            self.settle_parked();
            verdict = self.check_at_dequeue(&call.inbound);
        }
        match verdict {
            Verdict::Admit(held) => self.run_call(call, held),
            Verdict::Refuse(error) => self.shared().refuse(call.inbound, error),
            Verdict::Confirm(guard) => self.confirm(guard, call),
        }
    }

    fn check_at_dequeue(&self, inbound: &Inbound) -> Verdict {
        if planted::is(Bug::SkipCheckAtDequeue) {
            let guard = self.shared().fencing.guards().and_then(|guards| guards.find(&inbound.claim.election));
            return Verdict::Admit(guard.zip(inbound.claim.token).map(|(guard, token)| Held { guard, token }));
        }
        self.check(inbound)
    }

    fn check(&self, inbound: &Inbound) -> Verdict {
        let shared = self.shared();
        shared.fencing.check(&inbound.claim, shared.address.node())
    }

    fn no_longer_wanted(&self, inbound: &Inbound) -> Option<RpcError> {
        if inbound.deadline.is_some_and(|deadline| self.shared().world.now() >= deadline) {
            return Some(RpcError::Expired);
        }
        inbound.cancel.as_ref().is_some_and(|cancel| cancel.is_cancelled()).then_some(RpcError::Expired)
    }

    fn run_call(&mut self, call: Call, held: Option<Held>) {
        if self.end.is_some() {
            return; // dropped: it answers for itself, not handled
        }
        if self.cx.running.len() >= MAX_RUNNING {
            return self.shared().refuse(call.inbound, RpcError::Overloaded { limit: MAX_RUNNING as u64 });
        }
        // Before the first message under a new token: what runs under lower ones ends here.
        self.drop_lower_tokens();
        let Call { handler, inbound } = call;
        self.shared().count(&inbound.claim.election, AnswerKind::Admitted);
        let info = CallInfo {
            cluster: inbound.claim.cluster,
            election: inbound.claim.election,
            token: inbound.claim.token,
            deadline: inbound.deadline,
        };
        let scope = Scope { held, deadline: inbound.deadline, cancel: inbound.cancel, call: Some(Arc::new(info)) };
        let handlers = self.handlers[handler.interface].clone();
        let (payload, reply) = (inbound.payload, inbound.reply);
        self.take_step(scope, move |state, cx| handlers[handler.method](state, cx, payload, reply));
    }

    fn on_resumed(&mut self, resumed: Resumed<E>) {
        let Resumed { scope, waiter, step } = resumed;
        let refusal = match step {
            Ok(step) => match self.still_holds(&scope) {
                Ok(()) => return self.step(scope, step),
                Err(error) => error,
            },
            Err(Ok(error)) => error,
            Err(Err(panic)) => {
                self.end = Some(Err(EndpointFailure::Panicked(panic.clone())));
                RpcError::EndpointFailed { why: panic }
            }
        };
        self.give_up(&scope, waiter, refusal);
    }

    /// Every resume checks the guard again.
    fn still_holds(&self, scope: &Scope) -> Result<(), RpcError> {
        match (scope.held, self.shared().fencing.guards()) {
            (Some(held), Some(guards)) => guards.holds(held),
            _ => Ok(()),
        }
    }

    fn give_up(&self, scope: &Scope, waiter: Option<Arc<dyn crate::answer::Fail>>, error: RpcError) {
        if let (RpcError::Superseded { .. }, Some(call)) = (&error, &scope.call) {
            self.shared().count(&call.election, AnswerKind::Superseded);
        }
        if let Some(waiter) = waiter {
            waiter.fail(error);
        }
    }

    fn on_raised(&mut self) {
        self.drop_lower_tokens();
        self.settle_parked();
    }

    /// Drops everything that runs under a token that is no longer the highest; at once, not at its next poll.
    fn drop_lower_tokens(&mut self) {
        let fencing = self.shared().fencing.clone();
        let Some(guards) = fencing.guards() else { return };
        let raises = guards.raises();
        if raises == self.purged_at {
            return;
        }
        self.purged_at = raises;
        let running = std::mem::take(&mut self.cx.running);
        for entry in running {
            match entry.scope.held.map_or(Ok(()), |held| guards.holds(held)) {
                Ok(()) => self.cx.running.push(entry),
                Err(error) => {
                    let Running { scope, waiter, .. } = entry;
                    self.give_up(&scope, waiter, error);
                }
            }
        }
    }

    // --- confirmation of higher tokens ---

    fn confirm(&mut self, guard: usize, call: Call) {
        let fencing = self.shared().fencing.clone();
        let guards = fencing.guards().expect("only guards ask for confirmation");
        if let Err(error) = guards.learn(guard) {
            return self.shared().refuse(call.inbound, error);
        }
        self.settle_parked();
        match self.check(&call.inbound) {
            Verdict::Admit(held) => return self.run_call(call, held),
            Verdict::Refuse(error) => return self.shared().refuse(call.inbound, error),
            Verdict::Confirm(_) => {}
        }
        match self.parked.get_mut(&guard) {
            Some(parked) if parked.asked.len() + parked.since.len() >= MAX_PARKED => {
                self.shared().refuse(call.inbound, RpcError::Overloaded { limit: MAX_PARKED as u64 });
            }
            Some(parked) => parked.since.push_back(call),
            None => self.ask_election(guard, VecDeque::from([call])),
        }
    }

    /// One bounded linearizable read for all that wait.
    fn ask_election(&mut self, guard: usize, asked: VecDeque<Call>) {
        let source = self.shared().fencing.guards().expect("only guards ask for confirmation").source(guard);
        self.parked.insert(guard, Parked { asked, since: VecDeque::new() });
        let world = self.shared().world.clone();
        self.reads.push(Box::pin(async move {
            let view = match world.timeout(CONFIRM, source.read()).await {
                Some(Ok(view)) => Ok(view),
                Some(Err(Unreachable { why })) => Err(why),
                None => Err(format!("no answer within {CONFIRM:?}")),
            };
            (guard, view)
        }));
    }

    fn on_read(&mut self, guard: usize, view: Result<LeaderView, String>) {
        let fencing = self.shared().fencing.clone();
        let guards = fencing.guards().expect("only guards ask for confirmation");
        let raised = match &view {
            Ok(view) => guards.confirm(guard, view),
            Err(why) => {
                tracing::warn!(election = %guards.election(guard), why, "a higher token could not be confirmed");
                Ok(())
            }
        };
        self.settle_parked();
        let Some(Parked { asked, since }) = self.parked.remove(&guard) else { return };
        for call in asked {
            let refusal = raised.clone().err().unwrap_or_else(|| guards.ahead(guard));
            self.shared().refuse(call.inbound, refusal);
        }
        if !since.is_empty() {
            self.ask_election(guard, since);
        }
    }

    /// Takes up, in their order, the waiting messages that need no confirmation any more.
    fn settle_parked(&mut self) {
        for (guard, Parked { asked, since }) in std::mem::take(&mut self.parked) {
            let asked = self.settle(asked);
            let since = self.settle(since);
            self.parked.insert(guard, Parked { asked, since });
        }
    }

    fn settle(&mut self, calls: VecDeque<Call>) -> VecDeque<Call> {
        let mut unconfirmed = VecDeque::new();
        for call in calls {
            match self.check(&call.inbound) {
                Verdict::Admit(held) => self.run_call(call, held),
                Verdict::Refuse(error) => self.shared().refuse(call.inbound, error),
                Verdict::Confirm(_) => unconfirmed.push_back(call),
            }
        }
        unconfirmed
    }

    // --- steps ---

    fn step(&mut self, scope: Scope, step: Step<E>) {
        self.take_step(scope, step);
    }

    fn take_step(&mut self, scope: Scope, step: impl FnOnce(&mut E, &mut Context<E>)) {
        self.cx.scope = scope;
        let Actor { state, cx, .. } = self;
        let taken = catch_unwind(AssertUnwindSafe(|| step(state, cx)));
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
