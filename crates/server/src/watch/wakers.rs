//! Who is to be woken when keys change. A watcher's share here is two numbers, however slow it is.
//!
//! It knows no values and keeps no events: a watcher that is woken reads what changed from the state.
//!
//! Keeps true: a watcher is woken for every change of its keys that is published after it was registered, or is cut off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use palisade_coord_core::{Event, Keys, Revision};
use tokio::sync::Notify;

use super::follow::Due;
use super::intervals::{Interval, Intervals};

/// Watchers of one node: twice the aim of 10,000. Each costs a stream, its keys and a record here.
pub(crate) const MAX_WATCHERS: usize = 20_000;

/// Who is to be woken.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last_id: u64,
    intervals: Intervals,
    /// By watcher; taken out when it is dropped. Those that were cut off stand in no interval.
    watchers: BTreeMap<u64, Woken>,
    /// Everything up to it has woken whom it concerns.
    published: Revision,
    /// Set for good by [`Wakers::close`].
    closed: bool,
}

#[derive(Debug)]
struct Woken {
    due: Option<Due>,
    is_cut_off: bool,
    bell: Arc<Notify>,
}

/// What a watcher finds when it looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wake {
    /// Changes of its keys.
    Due(Due),
    /// Nothing; everything up to this revision has been published.
    Nothing(Revision),
    /// The state has jumped, or the node stops.
    CutOff,
}

impl Wakers {
    /// Wakes whom the events of a command concern, after which the revision is this. Never waits.
    pub(crate) fn publish(&self, revision: Revision, events: &[Event]) {
        let mut inner = self.lock();
        let Inner { intervals, watchers, published, .. } = &mut *inner;
        *published = (*published).max(revision);
        if intervals.is_empty() {
            return;
        }
        for event in events {
            let Event::KeyChanged { key, revision, .. } = event else { continue };
            intervals.of_key(key, |id| {
                let watcher = watchers.get_mut(&id).expect("whoever stands in an interval is registered");
                if watcher.due.is_none() {
                    watcher.bell.notify_one();
                }
                watcher.due = Some(Due::add(watcher.due, *revision));
            });
        }
    }

    /// Cuts everybody off: the state has jumped.
    pub(crate) fn cut_off(&self) {
        let mut inner = self.lock();
        inner.intervals = Intervals::default();
        for watcher in inner.watchers.values_mut() {
            watcher.is_cut_off = true;
            watcher.bell.notify_one();
        }
    }

    /// Cuts everybody off, for good.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.cut_off();
    }

    /// Registers a watcher. Do it under the state's lock, together with the look that says where it begins: what is applied
    /// after that look wakes it. `None`: there are [`MAX_WATCHERS`].
    pub(super) fn register(self: &Arc<Wakers>, keys: &Keys) -> Option<Ticket> {
        let (interval, bell) = (Interval::of(keys), Arc::new(Notify::new()));
        let mut inner = self.lock();
        if inner.watchers.len() >= MAX_WATCHERS {
            return None;
        }
        inner.last_id += 1;
        let id = inner.last_id;
        let is_cut_off = inner.closed;
        inner.watchers.insert(id, Woken { due: None, is_cut_off, bell: Arc::clone(&bell) });
        if !is_cut_off {
            inner.intervals.insert(interval.clone(), id);
        }
        Some(Ticket { id, interval, bell, wakers: Arc::clone(self) })
    }

    /// Watchers of keys, at this node.
    pub(crate) fn count(&self) -> usize {
        self.lock().watchers.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing that can panic runs under this lock")
    }
}

/// One watcher's place. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Ticket {
    id: u64,
    interval: Interval,
    bell: Arc<Notify>,
    wakers: Arc<Wakers>,
}

impl Ticket {
    /// Takes what there is.
    pub(super) fn take(&self) -> Wake {
        let mut inner = self.wakers.lock();
        let published = inner.published;
        let watcher = inner.watchers.get_mut(&self.id).expect("it is registered as long as its ticket lives");
        match (watcher.is_cut_off, watcher.due.take()) {
            (true, _) => Wake::CutOff,
            (false, Some(due)) => Wake::Due(due),
            (false, None) => Wake::Nothing(published),
        }
    }

    /// Waits until there may be something. Cancelling it loses nothing.
    pub(super) async fn woken(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.wakers.lock();
        let watcher = inner.watchers.remove(&self.id);
        if watcher.is_some_and(|watcher| !watcher.is_cut_off) {
            inner.intervals.remove(&self.interval, self.id);
        }
    }
}
