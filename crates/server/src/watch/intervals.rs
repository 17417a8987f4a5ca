//! Which watchers watch a key: intervals of keys, asked for all that hold one.
//!
//! A search tree over the beginnings of the intervals, in which each node knows how far the intervals below it reach, so that
//! a question costs about the logarithm of their number, and a little for each that is found. Its shape rests on drawn
//! priorities (a treap), not on the order in which watchers come: they often come in the order of their keys.
//!
//! Keeps true: equal intervals share one node; no node is without a watcher.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use palisade_coord_core::Keys;

/// Keys from the first on and before the second.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Interval {
    from: Arc<[u8]>,
    to: End,
}

/// Where an interval ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    /// Before this key.
    Before(Arc<[u8]>),
    /// With the last key that there can be. Above all others.
    Never,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => *key < **end,
            End::Never => true,
        }
    }
}

impl Interval {
    pub(super) fn of(keys: &Keys) -> Interval {
        let (from, to) = match keys {
            // The next key in the order is the same with a zero behind it.
            Keys::One(key) => (key, End::Before(Arc::from([key.as_slice(), &[0]].concat()))),
            Keys::Span { from, to } => (from, End::Before(Arc::from(to.as_slice()))),
            Keys::From(from) => (from, End::Never),
        };
        Interval { from: Arc::from(from.as_slice()), to }
    }
}

type Link = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    interval: Interval,
    watchers: BTreeSet<u64>,
    /// Above those of both below it.
    priority: u64,
    /// The furthest end of this interval and of all below.
    reach: End,
    left: Link,
    right: Link,
}

/// The intervals of all watchers.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    root: Link,
    /// Draws the priorities. Where they come from does not matter, only that they do not follow the keys.
    drawn: u64,
}

impl Intervals {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub(super) fn insert(&mut self, interval: Interval, watcher: u64) {
        let priority = self.draw();
        self.root = Some(insert(self.root.take(), interval, watcher, priority));
    }

    /// Takes out what was inserted.
    pub(super) fn remove(&mut self, interval: &Interval, watcher: u64) {
        self.root = remove(self.root.take(), interval, watcher);
    }

    /// Tells of every watcher of this key.
    pub(super) fn of_key(&self, key: &[u8], mut tell: impl FnMut(u64)) {
        visit(self.root.as_deref(), key, &mut tell);
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.drawn ^ (self.drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Node {
    /// After something below has changed.
    fn reached(mut self: Box<Self>) -> Box<Node> {
        let below = [&self.left, &self.right].into_iter().flatten().map(|node| &node.reach);
        self.reach = below.chain([&self.interval.to]).max().expect("there is its own").clone();
        self
    }
}

fn insert(link: Link, interval: Interval, watcher: u64, priority: u64) -> Box<Node> {
    let Some(mut node) = link else {
        let (reach, watchers) = (interval.to.clone(), BTreeSet::from([watcher]));
        return Box::new(Node { interval, watchers, priority, reach, left: None, right: None });
    };
    match interval.cmp(&node.interval) {
        Ordering::Equal => {
            node.watchers.insert(watcher);
            node
        }
        Ordering::Less => {
            let mut left = insert(node.left.take(), interval, watcher, priority);
            if left.priority <= node.priority {
                node.left = Some(left);
                return node.reached();
            }
            node.left = left.right.take();
            left.right = Some(node.reached());
            left.reached()
        }
        Ordering::Greater => {
            let mut right = insert(node.right.take(), interval, watcher, priority);
            if right.priority <= node.priority {
                node.right = Some(right);
                return node.reached();
            }
            node.right = right.left.take();
            right.left = Some(node.reached());
            right.reached()
        }
    }
}

fn remove(link: Link, interval: &Interval, watcher: u64) -> Link {
    let mut node = link?;
    match interval.cmp(&node.interval) {
        Ordering::Equal => {
            node.watchers.remove(&watcher);
            if node.watchers.is_empty() {
                return merge(node.left.take(), node.right.take());
            }
        }
        Ordering::Less => node.left = remove(node.left.take(), interval, watcher),
        Ordering::Greater => node.right = remove(node.right.take(), interval, watcher),
    }
    Some(node.reached())
}

/// Of two trees, all of the first before all of the second.
fn merge(left: Link, right: Link) -> Link {
    match (left, right) {
        (one, None) | (None, one) => one,
        (Some(mut left), Some(mut right)) => Some(if left.priority > right.priority {
            left.right = merge(left.right.take(), Some(right));
            left.reached()
        } else {
            right.left = merge(Some(left), right.left.take());
            right.reached()
        }),
    }
}

fn visit(node: Option<&Node>, key: &[u8], tell: &mut impl FnMut(u64)) {
    let Some(node) = node else { return };
    if !node.reach.is_after(key) {
        return;
    }
    visit(node.left.as_deref(), key, tell);
    if *key < *node.interval.from {
        return;
    }
    if node.interval.to.is_after(key) {
        node.watchers.iter().copied().for_each(&mut *tell);
    }
    visit(node.right.as_deref(), key, tell);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(link: &Link) -> usize {
        link.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    fn of_key(intervals: &Intervals, key: &[u8]) -> Vec<u64> {
        let mut all = Vec::new();
        intervals.of_key(key, |watcher| all.push(watcher));
        all.sort_unstable();
        all
    }

    /// Keys of up to two letters out of three, so that they meet often.
    fn key(draw: u64) -> Vec<u8> {
        let letters = [draw % 3, draw / 3 % 3].map(|it| b'a' + u8::try_from(it).unwrap());
        letters[..usize::try_from(draw / 9 % 3).unwrap()].to_vec()
    }

    #[test]
    fn it_says_what_a_list_says() {
        let mut random = Intervals::default();
        let (mut intervals, mut list) = (Intervals::default(), Vec::<(u64, Keys)>::new());
        for watcher in 0..5_000 {
            let (one, other) = (key(random.draw() >> 8), key(random.draw() >> 8));
            let keys = match random.draw() % 4 {
                0 => Keys::One(one),
                1 => Keys::Span { from: one, to: other },
                2 => Keys::From(one),
                _ => Keys::prefix(one),
            };
            intervals.insert(Interval::of(&keys), watcher);
            list.push((watcher, keys));
            while list.len() as u64 > random.draw() % 64 {
                let at = usize::try_from(random.draw() % list.len() as u64).unwrap();
                let (watcher, keys) = list.swap_remove(at);
                intervals.remove(&Interval::of(&keys), watcher);
            }
            let asked = key(random.draw() >> 8);
            let mut expected: Vec<_> = list.iter().filter(|(_, keys)| keys.has(&asked)).map(|it| it.0).collect();
            expected.sort_unstable();
            assert_eq!(of_key(&intervals, &asked), expected, "{asked:?} in {list:?}");
            assert_eq!(intervals.is_empty(), list.is_empty());
        }
    }

    #[test]
    fn it_stays_flat_when_watchers_come_in_the_order_of_their_keys() {
        let mut intervals = Intervals::default();
        for watcher in 0..20_000u64 {
            intervals.insert(Interval::of(&Keys::prefix(format!("{watcher:08}/"))), watcher);
        }
        assert!(depth(&intervals.root) < 64, "{}", depth(&intervals.root));
        assert_eq!(of_key(&intervals, b"00000077/a"), [77]);
        assert_eq!(of_key(&intervals, b"1"), [0u64; 0]);
    }
}
