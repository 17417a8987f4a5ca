//! The stream of one observer: the present state, also "no leader", then every change.
//!
//! Keeps true: nothing comes twice, nothing is left out, `seq` only rises; all events of a `seq` travel in one message.
//! The stream ends, saying why, when this node no longer surely leads the store, or when the observer is too slow: an
//! observer must not sit on a node that hears nothing.

use futures_util::Stream;
use futures_util::stream::unfold;
use palisade_coord_core::Seq;
use palisade_planted::{self as planted, Bug};
use palisade_replica::Leadership;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, ObserveReply};
use palisade_wire::{convert, status};
use tokio::sync::watch;
use tonic::Status;

use crate::api::Api;
use crate::confirmation::Touch;
use crate::hub::{MAX_OBSERVERS, Subscription};
use crate::refusals;

/// Begins to observe, with a state that has everything acknowledged before this call.
pub(crate) async fn observe(
    api: &Api,
    election: String,
) -> Result<impl Stream<Item = Result<ObserveReply, Status>> + Send + use<>, Status> {
    api.barrier().await?;
    let mut touch = api.touch.clone();
    let Some(leadership) = touch.borrow_and_update().leadership() else {
        return Err(status::refuse(refusals::no_store_leader()));
    };
    let hub = api.machine.hub();
    // One look at the state: what is applied after it comes through the subscription.
    let (changes, first, after) = api.machine.read(|state| {
        let first = convert::observed_state(convert::header(state), state.leader(&election));
        (hub.observe(&election), first, state.seq())
    });
    let Some(changes) = changes else {
        let detail = status::not_applied(Kind::Overloaded, "observe again a little later");
        return Err(status::refuse(ErrorDetail { limit: format!("{MAX_OBSERVERS} observers of a node"), ..detail }));
    };
    let observing = Observing { election, first: Some(first), changes, after, touch, leadership, ended: None };
    Ok(unfold(observing, |mut observing| async move { observing.next().await.map(|item| (item, observing)) }))
}

struct Observing {
    election: String,
    /// The present state, until it is sent.
    first: Option<ObserveReply>,
    changes: Subscription,
    /// What was sent already.
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
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        loop {
            let leadership = self.leadership;
            let applied = tokio::select! {
                biased;
                _ = self.touch.wait_for(|now| is_over(now, leadership)) => Err(()),
                applied = self.changes.next() => Ok(applied),
            };
            let applied = match applied {
                Ok(Some(applied)) => applied,
                Ok(None) => return self.end("the observer was too slow, or the node stops; observe again"),
                Err(()) => return self.end("this node no longer surely leads the store; observe again"),
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

    fn end(&mut self, hint: &str) -> Option<Result<ObserveReply, Status>> {
        self.ended = Some(());
        Some(Err(status::refuse(status::not_applied(Kind::NoStoreLeader, hint))))
    }
}

fn is_over(now: &Touch, leadership: Leadership) -> bool {
    now.leadership() != Some(leadership) && !planted::is(Bug::EventsLostAtSnapshot)
}
