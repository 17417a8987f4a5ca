//! The stream of one observer: the present state, also "no leader", or what followed after what it saw last; then every change.
//!
//! Keeps true: nothing comes twice, nothing is left out unless a gap says so, `seq` only rises; all events of a `seq` travel in
//! one message. The stream ends, saying why, when this node no longer surely leads the store, or when the observer is too slow:
//! an observer must not sit on a node that hears nothing.

use std::collections::VecDeque;

use futures_util::Stream;
use futures_util::stream::unfold;
use palisade_coord_core::{Seq, State};
use palisade_planted::{self as planted, Bug};
use palisade_replica::Leadership;
use palisade_wire::convert::{Gap, Observe, ObserveFrom};
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, Header, ObserveReply, observe_event};
use palisade_wire::{convert, status};
use tokio::sync::watch;
use tonic::Status;

use crate::api::Api;
use crate::confirmation::Touch;
use crate::hub::{MAX_OBSERVERS, Subscription};
use crate::metrics::GapKind;
use crate::refusals;

/// Past events that are read under one look at the state: with the largest values 4 MiB, which is some milliseconds.
const BATCH: usize = 64;

/// Begins to observe, with a state that has everything acknowledged before this call.
pub(crate) async fn observe(
    api: &Api,
    what: Observe,
) -> Result<impl Stream<Item = Result<ObserveReply, Status>> + Send + use<>, Status> {
    api.barrier().await?;
    let mut touch = api.touch.clone();
    let Some(leadership) = touch.borrow_and_update().leadership() else {
        return Err(status::refuse(refusals::no_store_leader()));
    };
    let Observe { election, from } = what;
    let mut observing = Observing {
        api: api.clone(),
        election,
        ready: VecDeque::new(),
        changes: None,
        after: Seq(0),
        touch,
        leadership,
        ended: None,
    };
    observing.look(Looks::First(from)).map_err(status::refuse)?;
    Ok(unfold(observing, |mut observing| async move { observing.next().await.map(|item| (item, observing)) }))
}

/// What a look at the state is for.
#[derive(Clone, Copy)]
enum Looks {
    First(Option<ObserveFrom>),
    /// For more of the past.
    Again,
}

struct Observing {
    api: Api,
    election: String,
    /// What is to be sent before anything else.
    ready: VecDeque<ObserveReply>,
    /// What changes from now on. `None`: there may be more of the past.
    changes: Option<Subscription>,
    /// Up to here everything was sent, or is in `ready`.
    after: Seq,
    touch: watch::Receiver<Touch>,
    leadership: Leadership,
    /// Set when the reason for the end has been sent.
    ended: Option<()>,
}

impl Observing {
    async fn next(&mut self) -> Option<Result<ObserveReply, Status>> {
        if self.ended.is_some() {
            return None;
        }
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(Ok(ready));
            }
            let leadership = self.leadership;
            let Some(changes) = &mut self.changes else {
                if is_over(&self.touch.borrow(), leadership) {
                    return self.lost();
                }
                match self.look(Looks::Again) {
                    Ok(()) => continue,
                    Err(why) => return self.end(why),
                }
            };
            let applied = tokio::select! {
                biased;
                _ = self.touch.wait_for(|now| is_over(now, leadership)) => Err(()),
                applied = changes.next() => Ok(applied),
            };
            let applied = match applied {
                Ok(Some(applied)) => applied,
                Ok(None) => {
                    let hint = "the observer was too slow, or the node stops; observe again";
                    return self.end(status::not_applied(Kind::NoStoreLeader, hint));
                }
                Err(()) => return self.lost(),
            };
            if applied.seq <= self.after {
                continue;
            }
            self.after = applied.seq;
            if let Some(reply) = convert::observed_events(applied.header(), &self.election, &applied.events) {
                return Some(Ok(reply));
            }
        }
    }

    /// One look at the state: what is applied after the last one comes through the subscription.
    fn look(&mut self, looks: Looks) -> Result<(), ErrorDetail> {
        let hub = self.api.machine.hub();
        let (seen, changes) = self.api.machine.read(|state| {
            let seen = match looks {
                Looks::First(from) => first(state, &self.election, from),
                Looks::Again => onward(state, &self.election, self.after),
            };
            let changes = (seen.rest == Rest::None).then(|| hub.observe(&self.election));
            (seen, changes)
        });
        if seen.replies.iter().any(is_gap) {
            self.api.machine.metrics().gaps.inc(GapKind::Observe);
        }
        self.ready.extend(seen.replies);
        self.after = seen.after;
        if let Some(changes) = changes {
            self.changes = Some(changes.ok_or_else(|| ErrorDetail {
                limit: format!("{MAX_OBSERVERS} observers of a node"),
                ..status::not_applied(Kind::Overloaded, "observe again a little later")
            })?);
        }
        Ok(())
    }

    fn lost(&mut self) -> Option<Result<ObserveReply, Status>> {
        let hint = "this node no longer surely leads the store; observe again";
        self.end(status::not_applied(Kind::NoStoreLeader, hint))
    }

    fn end(&mut self, why: ErrorDetail) -> Option<Result<ObserveReply, Status>> {
        self.ended = Some(());
        Some(Err(status::refuse(why)))
    }
}

fn is_over(now: &Touch, leadership: Leadership) -> bool {
    now.leadership() != Some(leadership) && !planted::is(Bug::EventsLostAtSnapshot)
}

/// What one look at the state brought.
struct Seen {
    replies: Vec<ObserveReply>,
    /// Up to here they tell everything.
    after: Seq,
    rest: Rest,
}

/// Whether the past has more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    None,
    Some,
}

fn first(state: &State, election: &str, from: Option<ObserveFrom>) -> Seen {
    match from {
        None => {
            let reply = convert::observed_state(convert::header(state), state.leader(election));
            Seen { replies: vec![reply], after: state.seq(), rest: Rest::None }
        }
        Some(from) if from.generation.is_some_and(|it| it != state.generation()) => {
            gap(state, election, Gap::Generation)
        }
        Some(from) if from.seq > state.seq() => gap(state, election, Gap::Ahead),
        Some(from) => onward(state, election, from.seq),
    }
}

/// What was told after this, as far as one look goes.
fn onward(state: &State, election: &str, after: Seq) -> Seen {
    let kept = state.told().complete_after(election);
    let after = if planted::is(Bug::GapUntold) { after.max(kept) } else { after };
    let Ok(mut told) = state.told().after(election, after) else { return gap(state, election, Gap::Compacted) };
    let mut seen = Seen { replies: Vec::new(), after, rest: Rest::Some };
    for (seq, told) in told.by_ref().take(BATCH) {
        let header = Header { seq: seq.get(), revision: told.revision.get(), ..convert::header(state) };
        seen.replies.extend(convert::observed_events(header, election, std::slice::from_ref(&told.event)));
        seen.after = seq;
    }
    if told.next().is_none() {
        (seen.after, seen.rest) = (state.seq(), Rest::None);
    }
    seen
}

fn is_gap(reply: &ObserveReply) -> bool {
    reply.events.iter().any(|event| matches!(event.kind, Some(observe_event::Kind::Gap(_))))
}

fn gap(state: &State, election: &str, why: Gap) -> Seen {
    let (header, complete_after) = (convert::header(state), state.told().complete_after(election));
    let reply = convert::observed_gap(header, why, complete_after, state.leader(election));
    Seen { replies: vec![reply], after: state.seq(), rest: Rest::None }
}

#[cfg(test)]
mod tests;
