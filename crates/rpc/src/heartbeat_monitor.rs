//! Who is watched, who was heard of when, who is gone: the decisions of heartbeats. It sends nothing and reads no clock.
//!
//! Keeps true: of each target at most one end is told, once; of one that is not watched, nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_planted::{self as planted, Bug};

/// When a target counts as gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatPolicy {
    /// A heartbeat is answered after this time, so that there always is one on its way that notices a broken connection.
    pub interval: Duration,
    /// Silence for so long is the end.
    pub timeout: Duration,
    /// So many failures in a row are the end, whatever the timeout; `None`: only silence is. A stream that breaks fails the
    /// heartbeat that is on its way at once, and so does the next one if nobody is there.
    pub failures: Option<u32>,
}

impl Default for HeartbeatPolicy {
    /// Every half second; gone after 5 s of silence, or 2 failures in a row: a connection that was reset once is made again at
    /// once, a dead process refuses the second as well.
    fn default() -> HeartbeatPolicy {
        HeartbeatPolicy { interval: Duration::from_millis(500), timeout: Duration::from_secs(5), failures: Some(2) }
    }
}

/// Why a target is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gone {
    /// It was silent for the timeout.
    TimedOut,
    /// Its heartbeats failed, as often as the policy says.
    Unreachable {
        /// The last failure.
        why: String,
    },
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Gone::TimedOut => f.write_str("its heartbeats stopped"),
            Gone::Unreachable { why } => write!(f, "unreachable: {why}"),
        }
    }
}

/// When a target was last heard of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LastHeard {
    /// It is not watched.
    NotWatched,
    /// It is watched, and has said nothing yet.
    Never,
    /// Then, on the world's clock.
    At(Duration),
}

/// One watch over one target; a target that is watched again later is another watch.
pub(crate) type Watch = u64;

struct Watched {
    watch: Watch,
    /// When its silence began.
    since: Duration,
    last: LastHeard,
    failures: u32,
    gone: bool,
}

/// All that are watched.
pub(crate) struct Monitor<K> {
    policy: HeartbeatPolicy,
    watched: BTreeMap<K, Watched>,
    next: Watch,
}

impl<K: Ord + Clone> Monitor<K> {
    pub(crate) fn new(policy: HeartbeatPolicy) -> Monitor<K> {
        Monitor { policy, watched: BTreeMap::new(), next: 1 }
    }

    /// Watches a target from now on. `None`: it is watched already, and that watch goes on.
    pub(crate) fn watch(&mut self, target: K, now: Duration) -> Option<Watch> {
        if self.watched.contains_key(&target) {
            return None;
        }
        let watch = self.next;
        self.next += 1;
        let watched = Watched { watch, since: now, last: LastHeard::Never, failures: 0, gone: false };
        self.watched.insert(target, watched);
        Some(watch)
    }

    pub(crate) fn unwatch(&mut self, target: &K) -> Option<Watch> {
        self.watched.remove(target).map(|watched| watched.watch)
    }

    pub(crate) fn last_heard(&self, target: &K) -> LastHeard {
        self.watched.get(target).map_or(LastHeard::NotWatched, |watched| watched.last)
    }

    /// The watch over a target that is not gone.
    pub(crate) fn watch_of(&self, target: &K) -> Option<Watch> {
        self.watched.get(target).filter(|watched| !watched.gone).map(|watched| watched.watch)
    }

    /// A target said something. `false`: nobody watches it, or it is gone.
    pub(crate) fn heard(&mut self, target: &K, now: Duration) -> bool {
        let Some(watched) = self.watched.get_mut(target).filter(|watched| !watched.gone) else { return false };
        (watched.since, watched.last, watched.failures) = (now, LastHeard::At(now), 0);
        true
    }

    /// A heartbeat to or from a target failed otherwise than by silence. `Some`: that was one too many.
    pub(crate) fn failed(&mut self, target: &K, watch: Watch, why: String) -> Option<Gone> {
        let watched = self.watched.get_mut(target).filter(|watched| watched.watch == watch && !watched.gone)?;
        watched.failures = watched.failures.saturating_add(1);
        if self.policy.failures.is_none_or(|most| watched.failures < most) {
            return None;
        }
        watched.gone = true;
        Some(Gone::Unreachable { why })
    }

    /// When the next silence is too long.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        if planted::is(Bug::SilenceUnnoticed) {
            return None;
        }
        let live = self.watched.values().filter(|watched| !watched.gone);
        live.map(|watched| watched.since.saturating_add(self.policy.timeout)).min()
    }

    /// Those whose silence is too long by now.
    pub(crate) fn silent(&mut self, now: Duration) -> Vec<K> {
        if planted::is(Bug::SilenceUnnoticed) {
            return Vec::new();
        }
        let timeout = self.policy.timeout;
        let late = |watched: &Watched| !watched.gone && now >= watched.since.saturating_add(timeout);
        let silent: Vec<K> =
            self.watched.iter().filter(|(_, watched)| late(watched)).map(|(target, _)| target.clone()).collect();
        for target in &silent {
            self.watched.get_mut(target).expect("it was just found").gone = true;
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: HeartbeatPolicy =
        HeartbeatPolicy { interval: Duration::from_millis(1), timeout: Duration::from_millis(10), failures: Some(3) };

    #[derive(Clone, Debug)]
    enum Event {
        Watch(u8),
        Unwatch(u8),
        Heard(u8),
        Failed(u8),
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let target = || 0u8..3;
        prop_oneof![
            target().prop_map(Event::Watch),
            target().prop_map(Event::Unwatch),
            target().prop_map(Event::Heard),
            target().prop_map(Event::Failed),
            (0u64..8).prop_map(Event::Pass),
        ]
    }

    proptest! {
        /// Against a plain model: per target, the time of the last sign of life and the failures since.
        #[test]
        fn it_tells_each_end_once_and_none_too_early(events in prop::collection::vec(event(), 0..120)) {
            let mut monitor = Monitor::new(POLICY);
            let mut model: BTreeMap<u8, (u64, u32, bool)> = BTreeMap::new();
            let mut now = 0;
            for event in events {
                let at = Duration::from_millis(now);
                match event {
                    Event::Watch(target) => {
                        let new = !model.contains_key(&target);
                        prop_assert_eq!(monitor.watch(target, at).is_some(), new);
                        model.entry(target).or_insert((now, 0, false));
                    }
                    Event::Unwatch(target) => {
                        prop_assert_eq!(monitor.unwatch(&target).is_some(), model.remove(&target).is_some());
                    }
                    Event::Heard(target) => {
                        let live = model.get_mut(&target).filter(|it| !it.2);
                        prop_assert_eq!(monitor.heard(&target, at), live.is_some());
                        if let Some(it) = live {
                            *it = (now, 0, false);
                        }
                    }
                    Event::Failed(target) => {
                        let watch = monitor.watched.get(&target).map_or(0, |it| it.watch);
                        let told = monitor.failed(&target, watch, "x".to_owned());
                        let gone = model.get_mut(&target).filter(|it| !it.2).is_some_and(|it| {
                            it.1 += 1;
                            it.2 = it.1 >= 3;
                            it.2
                        });
                        prop_assert_eq!(told.is_some(), gone);
                    }
                    Event::Pass(ms) => {
                        now += ms;
                        let silent = monitor.silent(Duration::from_millis(now));
                        let expected: Vec<u8> = model.iter_mut().filter(|(_, it)| !it.2 && now >= it.0 + 10).map(|(target, it)| {
                            it.2 = true;
                            *target
                        }).collect();
                        prop_assert_eq!(silent, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn a_failure_of_an_earlier_watch_does_not_count_for_the_next() {
        let mut monitor = Monitor::new(HeartbeatPolicy { failures: Some(1), ..POLICY });
        let first = monitor.watch("a", Duration::ZERO).unwrap();
        monitor.unwatch(&"a");
        let second = monitor.watch("a", Duration::ZERO).unwrap();
        assert_eq!(monitor.failed(&"a", first, "late".to_owned()), None);
        assert!(monitor.failed(&"a", second, "now".to_owned()).is_some());
    }
}
