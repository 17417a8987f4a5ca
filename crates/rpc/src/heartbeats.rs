//! Heartbeats with any number of targets, as sender, as receiver, or both. A thin driver: the monitor decides.
//!
//! The sender keeps one request on its way to each target; the receiver holds its answer back for an interval. So a broken
//! connection is noticed when it breaks, on both sides: the request fails over here, and is dropped unanswered over there.
//!
//! Nobody is called back: one owner takes the events. What a target says replaces what it said before and was not taken yet, so
//! that a slow owner costs one payload for each target and no more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use palisade_world::{Task, World};
use tokio::sync::Notify;

use crate::heartbeat_monitor::{Gone, HeartbeatPolicy, LastHeard, Monitor, Watch};
use crate::{Backoff, RpcError};

/// What there is to know about a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heartbeat<K, In> {
    /// It was heard of.
    Heard {
        /// Who.
        target: K,
        /// What it said last.
        payload: In,
    },
    /// It is gone. Told once; it is watched no more until it is unwatched and watched again.
    Gone {
        /// Who.
        target: K,
        /// Why.
        why: Gone,
    },
}

/// The heartbeats of one owner. Cheap to clone; all requests end with the last clone.
pub struct Heartbeats<K, In>(Arc<Inner<K, In>>);

struct Inner<K, In> {
    policy: HeartbeatPolicy,
    shared: Arc<Shared<K, In>>,
}

impl<K, In> Clone for Heartbeats<K, In> {
    fn clone(&self) -> Self {
        Heartbeats(self.0.clone())
    }
}

struct Shared<K, In> {
    state: Mutex<State<K, In>>,
    /// Something to tell, or another deadline.
    changed: Notify,
    world: World,
}

struct State<K, In> {
    monitor: Monitor<K>,
    /// Not taken yet. Ends stay behind what was heard before.
    heard: BTreeMap<K, In>,
    gone: BTreeMap<K, Gone>,
    /// The requests on their way; they end with their watch.
    requests: BTreeMap<Watch, Task<()>>,
    stopped: bool,
}

impl<K, In> Heartbeats<K, In>
where
    K: Ord + Clone + Send + Sync + 'static,
    In: Send + 'static,
{
    /// Watches nobody yet.
    pub fn new(policy: HeartbeatPolicy, world: &World) -> Heartbeats<K, In> {
        let state = State {
            monitor: Monitor::new(policy),
            heard: BTreeMap::new(),
            gone: BTreeMap::new(),
            requests: BTreeMap::new(),
            stopped: false,
        };
        let shared = Shared { state: Mutex::new(state), changed: Notify::new(), world: world.clone() };
        Heartbeats(Arc::new(Inner { policy, shared: Arc::new(shared) }))
    }

    /// As a receiver: watches a target that sends requests, or one-way heartbeats. Twice is once.
    pub fn watch(&self, target: K) {
        let shared = &self.0.shared;
        let mut state = shared.state();
        if !state.stopped {
            let _ = state.monitor.watch(target, shared.world.now());
            shared.changed.notify_one();
        }
    }

    /// As a sender: watches a target, and keeps a request on its way to it. `ask` makes one request, with the payload that is
    /// meant for this target; it should bound itself by the timeout of the policy. Silence ([`RpcError::TimedOut`],
    /// [`RpcError::Overloaded`], [`RpcError::Expired`]) is judged by the timeout alone; every other error is a failure.
    /// Twice is once.
    pub fn request<F>(&self, target: K, ask: impl Fn(&K) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<In, RpcError>> + Send + 'static,
    {
        let shared = &self.0.shared;
        let mut state = shared.state();
        if state.stopped {
            return;
        }
        let Some(watch) = state.monitor.watch(target.clone(), shared.world.now()) else { return };
        let requests = requests(shared.clone(), self.0.policy, target, watch, ask);
        state.requests.insert(watch, shared.world.spawn("heartbeats", requests));
        shared.changed.notify_one();
    }

    /// Watches a target no more: from now on nothing is told of it. Returns whether it was watched.
    pub fn unwatch(&self, target: &K) -> bool {
        let task = {
            let mut state = self.0.shared.state();
            state.heard.remove(target);
            state.gone.remove(target);
            let Some(watch) = state.monitor.unwatch(target) else { return false };
            state.requests.remove(&watch)
        };
        drop(task);
        true
    }

    /// Watches nobody any more, for good.
    pub fn stop(&self) {
        let tasks = {
            let mut state = self.0.shared.state();
            state.stopped = true;
            state.monitor = Monitor::new(self.0.policy);
            state.heard.clear();
            state.gone.clear();
            std::mem::take(&mut state.requests)
        };
        drop(tasks);
    }

    /// When a target was last heard of.
    pub fn last_heard(&self, target: &K) -> LastHeard {
        self.0.shared.state().monitor.last_heard(target)
    }

    /// A one-way heartbeat, or another sign of life. `false`: the target is not watched, or is gone; nothing is done.
    pub fn heard(&self, target: &K, payload: In) -> bool {
        self.0.shared.heard(target, payload)
    }

    /// As a receiver: a target sent a request. The answer to it is to be held back by [`Held::until_due`], for the interval
    /// that the sender asks for. `None`: the target is not watched, or is gone, and should not be answered as if it were.
    pub fn requested(&self, target: &K, payload: In) -> Option<Held<K, In>> {
        let shared = &self.0.shared;
        let watch = shared.state().monitor.watch_of(target)?;
        shared.heard(target, payload).then(|| Held {
            shared: shared.clone(),
            target: target.clone(),
            watch,
            due: false,
        })
    }

    /// The next event; for one owner. Cancelling it loses nothing. Targets time out only while somebody waits here.
    pub async fn next(&self) -> Heartbeat<K, In> {
        let shared = &self.0.shared;
        loop {
            let changed = shared.changed.notified();
            let deadline = {
                let mut state = shared.state();
                for target in state.monitor.silent(shared.world.now()) {
                    state.end(target, Gone::TimedOut);
                }
                if let Some(event) = state.take() {
                    return event;
                }
                state.monitor.next_deadline()
            };
            match deadline {
                Some(deadline) => {
                    tokio::select! {
                        () = changed => {}
                        () = shared.world.sleep_until(deadline) => {}
                    }
                }
                None => changed.await,
            }
        }
    }
}

impl<K: Ord + Clone, In> State<K, In> {
    fn take(&mut self) -> Option<Heartbeat<K, In>> {
        if let Some((target, payload)) = self.heard.pop_first() {
            return Some(Heartbeat::Heard { target, payload });
        }
        self.gone.pop_first().map(|(target, why)| Heartbeat::Gone { target, why })
    }

    fn end(&mut self, target: K, why: Gone) {
        self.gone.insert(target, why);
    }
}

impl<K: Ord + Clone, In> Shared<K, In> {
    fn state(&self) -> MutexGuard<'_, State<K, In>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, target: &K, payload: In) -> bool {
        let mut state = self.state();
        let heard = state.monitor.heard(target, self.world.now());
        if heard {
            state.heard.insert(target.clone(), payload);
            self.changed.notify_one();
        }
        heard
    }

    /// Returns whether the target is still watched.
    fn failed(&self, target: &K, watch: Watch, why: String) -> bool {
        let mut state = self.state();
        if let Some(gone) = state.monitor.failed(target, watch, why) {
            state.end(target.clone(), gone);
            self.changed.notify_one();
        }
        state.monitor.watch_of(target) == Some(watch)
    }
}

/// A request whose answer is held back. Dropping it before it is due says that the sender, or the way to it, is gone: that
/// counts as a failure of the target.
#[must_use = "hold it until it is due"]
pub struct Held<K: Ord + Clone, In> {
    shared: Arc<Shared<K, In>>,
    target: K,
    watch: Watch,
    due: bool,
}

impl<K: Ord + Clone, In> Held<K, In> {
    /// Waits for as long as the sender asked the answer to be held back.
    pub async fn until_due(mut self, hold: Duration) {
        self.shared.world.sleep(hold).await;
        self.due = true;
    }
}

impl<K: Ord + Clone, In> Drop for Held<K, In> {
    fn drop(&mut self) {
        if !self.due {
            let why = "the request was given up before it was answered".to_owned();
            self.shared.failed(&self.target, self.watch, why);
        }
    }
}

/// Keeps one request on its way, until the watch ends.
async fn requests<K, In, F>(
    shared: Arc<Shared<K, In>>,
    policy: HeartbeatPolicy,
    target: K,
    watch: Watch,
    ask: impl Fn(&K) -> F,
) where
    K: Ord + Clone,
    F: Future<Output = Result<In, RpcError>>,
{
    let mut pauses = fresh(policy);
    let mut failures = 0;
    loop {
        let began = shared.world.now();
        match ask(&target).await {
            Ok(payload) => {
                (failures, pauses) = (0, fresh(policy));
                if !shared.heard(&target, payload) {
                    return;
                }
                // The other side paces the answers; this is for one that does not.
                shared.world.sleep_until(began + policy.interval / 2).await;
            }
            Err(RpcError::TimedOut { .. } | RpcError::Overloaded { .. } | RpcError::Expired) => {
                shared.world.sleep_until(began + policy.interval / 2).await;
            }
            Err(error) => {
                failures += 1;
                if !shared.failed(&target, watch, error.to_string()) {
                    return;
                }
                // The first failure may be a connection that was reset: it is made again at once.
                if failures > 1 {
                    let pause = pauses.pause(&shared.world);
                    shared.world.sleep(pause).await;
                }
            }
        }
    }
}

fn fresh(policy: HeartbeatPolicy) -> Backoff {
    Backoff::new(Duration::from_millis(10).min(policy.interval), policy.interval)
}
