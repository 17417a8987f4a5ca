//! Where applied events go: to observers and to the session driver, in the order of `seq`. Watchers of keys are only woken.
//!
//! It never waits for a subscriber: each has a bounded queue, and one that lets it fill is cut off (it sees the end of its
//! subscription, comes back and reads the state anew). It keeps no history.
//!
//! Keeps true: a subscriber gets every event that was applied after it subscribed, once, in order, or is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use palisade_coord_core::{Event, Revision, Seq};
use palisade_fence::ClusterId;
use palisade_wire::coord::v1;
use tokio::sync::mpsc;

use crate::metrics::{CutOff, NodeMetrics};
use crate::watch::Wakers;

/// Events that one observer may leave unread. An observer that is behind by more than this many changes of one election
/// is told sooner by the present state.
pub const OBSERVER_QUEUE: usize = 128;

/// Events that the session driver may leave unread. It never waits for anything, so this many pile up only while the
/// machine as a whole stands still.
pub const DRIVER_QUEUE: usize = 65_536;

/// Observers of one node: twice the aim of 10,000. Each costs a stream and, once behind, its queue.
pub const MAX_OBSERVERS: usize = 20_000;

/// What one applied command changed.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The cluster's name.
    pub cluster: ClusterId,
    /// Raised by a restore.
    pub generation: u32,
    /// The command's place in the order of everything.
    pub seq: Seq,
    /// After the command.
    pub revision: Revision,
    /// What changed, in order. Never empty.
    pub events: Vec<Event>,
}

impl Applied {
    /// The header of a message that tells of this.
    pub fn header(&self) -> v1::Header {
        v1::Header {
            cluster_id: self.cluster.0,
            generation: self.generation,
            seq: self.seq.get(),
            revision: self.revision.get(),
        }
    }
}

/// Where applied events go.
#[derive(Debug, Default)]
pub struct Hub {
    subscribers: Mutex<Subscribers>,
    wakers: Arc<Wakers>,
    metrics: Arc<NodeMetrics>,
}

#[derive(Debug, Default)]
struct Subscribers {
    /// Names subscriptions, so that one can be taken out when it is dropped.
    last_id: u64,
    /// Subscribers to what happens to elections and sessions.
    coordination: BTreeMap<u64, mpsc::Sender<Arc<Applied>>>,
    /// Subscribers to one election. No map in it is empty.
    by_election: BTreeMap<String, BTreeMap<u64, mpsc::Sender<Arc<Applied>>>>,
    /// How many there are in `by_election`, those that were cut off and not yet dropped included.
    observers: usize,
    /// Set for good by [`Hub::close`]: nobody subscribes any more.
    closed: Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Closed {
    #[default]
    No,
    Yes,
}

impl Hub {
    /// A hub without subscribers.
    pub fn new() -> Arc<Hub> {
        Arc::new(Hub::default())
    }

    /// The same, that counts whom it cuts off.
    pub(crate) fn counting(metrics: Arc<NodeMetrics>) -> Arc<Hub> {
        Arc::new(Hub { metrics, ..Hub::default() })
    }

    /// What happens to elections and sessions from now on; writes of keys wake nobody here. Take it under the state's lock,
    /// together with what the state says, and nothing is missed; what was applied but is published a moment later has a `seq`
    /// that the state has already: skip it.
    pub fn subscribe(self: &Arc<Hub>) -> Subscription {
        self.add(Of::Coordination, DRIVER_QUEUE)
    }

    /// The changes of one election from now on; otherwise as [`Hub::subscribe`]. `None`: there are [`MAX_OBSERVERS`].
    pub fn observe(self: &Arc<Hub>, election: &str) -> Option<Subscription> {
        {
            let mut subscribers = self.lock();
            if subscribers.observers >= MAX_OBSERVERS {
                return None;
            }
            subscribers.observers += 1;
        }
        Some(self.add(Of::Election(election.to_owned()), OBSERVER_QUEUE))
    }

    /// Who watches keys.
    pub(crate) fn wakers(&self) -> &Arc<Wakers> {
        &self.wakers
    }

    /// Tells everybody whom it concerns. Never waits.
    pub(crate) fn publish(&self, applied: Applied) {
        self.wakers.publish(applied.revision, &applied.events);
        let coordination = !applied.events.iter().all(|event| matches!(event, Event::KeyChanged { .. }));
        let applied = Arc::new(applied);
        let elections: BTreeSet<&str> = applied.events.iter().filter_map(election_of).collect();
        let mut subscribers = self.lock();
        if coordination {
            send(&mut subscribers.coordination, &applied, &self.metrics);
        }
        for election in elections {
            let Some(observers) = subscribers.by_election.get_mut(election) else { continue };
            send(observers, &applied, &self.metrics);
            if observers.is_empty() {
                subscribers.by_election.remove(election);
            }
        }
    }

    /// Cuts everybody off: the state has jumped (a snapshot from another node), and what lay between is not known here.
    pub(crate) fn cut_off(&self) {
        self.wakers.cut_off();
        let mut subscribers = self.lock();
        subscribers.coordination.clear();
        subscribers.by_election.clear();
    }

    /// Cuts everybody off, for good.
    pub(crate) fn close(&self) {
        self.wakers.close();
        self.lock().closed = Closed::Yes;
        self.cut_off();
    }

    /// Whether nobody subscribes any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed == Closed::Yes
    }

    /// Observers of elections, at this node.
    pub(crate) fn observer_count(&self) -> usize {
        self.lock().observers
    }

    fn add(self: &Arc<Hub>, of: Of, queue: usize) -> Subscription {
        let (sender, events) = mpsc::channel(queue);
        let mut subscribers = self.lock();
        subscribers.last_id += 1;
        let id = subscribers.last_id;
        if subscribers.closed == Closed::No {
            match &of {
                Of::Coordination => subscribers.coordination.insert(id, sender),
                Of::Election(name) => subscribers.by_election.entry(name.clone()).or_default().insert(id, sender),
            };
        }
        Subscription { id, of, events, hub: Arc::downgrade(self) }
    }

    fn remove(&self, id: u64, of: &Of) {
        let mut subscribers = self.lock();
        let election = match of {
            Of::Coordination => return drop(subscribers.coordination.remove(&id)),
            Of::Election(election) => election,
        };
        subscribers.observers -= 1;
        if let Some(observers) = subscribers.by_election.get_mut(election) {
            observers.remove(&id);
            if observers.is_empty() {
                subscribers.by_election.remove(election);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().expect("nothing that can panic runs under this lock")
    }
}

/// Who is cut off is logged and forgotten; the others have it in their queue.
fn send(subscribers: &mut BTreeMap<u64, mpsc::Sender<Arc<Applied>>>, applied: &Arc<Applied>, metrics: &NodeMetrics) {
    subscribers.retain(|id, sender| match sender.try_send(Arc::clone(applied)) {
        Ok(()) => true,
        Err(mpsc::error::TrySendError::Full(_)) => {
            metrics.cut_off.inc(CutOff::Subscriber);
            tracing::warn!(subscriber = id, seq = applied.seq.get(), "a subscriber is too slow and is cut off");
            false
        }
        Err(mpsc::error::TrySendError::Closed(_)) => false,
    });
}

/// The election that observers of an event watch; `None`: it is for the session's own stream, or about a key.
fn election_of(event: &Event) -> Option<&str> {
    match event {
        Event::Elected { grant, .. } | Event::ValueChanged { grant } => Some(&grant.election),
        Event::Vacant { election, .. } => Some(election),
        Event::Revoked { .. }
        | Event::Withdrawn { .. }
        | Event::EndRequested { .. }
        | Event::SessionAsked { .. }
        | Event::SessionEnded { .. }
        | Event::KeyChanged { .. } => None,
    }
}

/// What a subscriber hears of.
#[derive(Debug)]
enum Of {
    /// All elections and sessions.
    Coordination,
    Election(String),
}

/// One subscriber's queue. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    of: Of,
    events: mpsc::Receiver<Arc<Applied>>,
    hub: Weak<Hub>,
}

impl Subscription {
    /// The next applied command that changed something. `None`: cut off, for being too slow, because the state jumped, or
    /// because the node stops. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Arc<Applied>> {
        self.events.recv().await
    }

    /// What is there already; `None`: nothing now.
    pub fn try_next(&mut self) -> Option<Arc<Applied>> {
        self.events.try_recv().ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.remove(self.id, &self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::EndReason;
    use palisade_fence::Token;

    use super::*;

    fn vacant(seq: u64, election: &str) -> Applied {
        Applied {
            cluster: ClusterId(1),
            generation: 0,
            seq: Seq(seq),
            revision: Revision(0),
            events: vec![Event::Vacant {
                election: election.to_owned(),
                previous: Token::new(0, 1),
                why: EndReason::Resigned,
            }],
        }
    }

    #[test]
    fn an_observer_hears_of_its_election_only_and_the_driver_of_all() {
        let hub = Hub::new();
        let (mut all, mut a) = (hub.subscribe(), hub.observe("a").unwrap());
        hub.publish(vacant(1, "a"));
        hub.publish(vacant(2, "b"));
        hub.publish(vacant(3, "a"));
        let seqs = |s: &mut Subscription| std::iter::from_fn(|| s.try_next().map(|a| a.seq.get())).collect::<Vec<_>>();
        assert_eq!(seqs(&mut all), [1, 2, 3]);
        assert_eq!(seqs(&mut a), [1, 3]);
    }

    #[tokio::test]
    async fn a_slow_observer_is_cut_off_and_the_others_are_not() {
        let hub = Hub::new();
        let (mut slow, mut quick) = (hub.observe("a").unwrap(), hub.observe("a").unwrap());
        for seq in 1..=OBSERVER_QUEUE as u64 + 1 {
            hub.publish(vacant(seq, "a"));
            assert_eq!(quick.try_next().map(|applied| applied.seq.get()), Some(seq));
        }
        for seq in 1..=OBSERVER_QUEUE as u64 {
            assert_eq!(slow.next().await.map(|applied| applied.seq.get()), Some(seq));
        }
        assert!(slow.next().await.is_none());
        hub.publish(vacant(1_000, "a"));
        assert!(quick.next().await.is_some());
    }

    #[test]
    fn observers_are_bounded() {
        let hub = Hub::new();
        let many: Vec<_> = (0..MAX_OBSERVERS).map_while(|_| hub.observe("a")).collect();
        assert!(many.len() == MAX_OBSERVERS && hub.observe("a").is_none());
        drop(many);
        assert!(hub.observe("a").is_some());
    }

    #[tokio::test]
    async fn a_dropped_subscription_leaves_nothing_behind() {
        let hub = Hub::new();
        drop((hub.observe("a"), hub.subscribe()));
        assert!(hub.lock().coordination.is_empty() && hub.lock().by_election.is_empty());
        assert_eq!(hub.lock().observers, 0);
        let mut last = hub.observe("a").unwrap();
        hub.close();
        assert!(last.next().await.is_none());
        assert!(hub.observe("a").unwrap().next().await.is_none());
    }
}
