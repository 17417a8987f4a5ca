//! How one message is judged when its turn comes, how a higher token is confirmed, and how what runs under lower ones ends.

use std::collections::VecDeque;
use std::sync::Arc;

use palisade_fence::{LeaderView, source::Unreachable};
use palisade_planted::{self as planted, Bug};

use super::{Actor, CONFIRM, Parked};
use crate::context::{MAX_RUNNING, Resumed, Running, Scope};
use crate::fencing::Verdict;
use crate::guards::Held;
use crate::inbound::Inbound;
use crate::recipient::Call;
use crate::{AnswerKind, CallInfo, EndpointFailure, RpcEndpoint, RpcError};

/// Messages that wait for one confirmation. A forged token must not hold more of the mailbox than this.
const MAX_PARKED: usize = 256;

impl<E: RpcEndpoint> Actor<E> {
    // --- messages ---

    pub(super) fn on_call(&mut self, call: Call) {
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
            let guard = self.shared().fencing.guards().and_then(|guards| guards.find(&inbound.claim).ok());
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
        let scope = Scope { held, cancel: inbound.cancel, call: Some(info) };
        let (payload, reply) = (inbound.payload, inbound.reply);
        self.take_step(scope, move |state, cx, handlers| {
            handlers[handler.interface][handler.method](state, cx, payload, reply);
        });
    }

    pub(super) fn on_resumed(&mut self, resumed: Resumed<E>) {
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

    pub(super) fn on_raised(&mut self) {
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

    pub(super) fn on_read(&mut self, guard: usize, view: Result<LeaderView, String>) {
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
}
