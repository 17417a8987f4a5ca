//! An ordered map of which a copy shares everything. It is a `BTreeMap` of leaves, each a short sorted list behind a counted
//! pointer; a copy copies the pointers only, and whoever changes a value first copies the leaf and the value that the other
//! still sees. So a copy of a million values takes about a millisecond, and no single change takes long after it.
//!
//! Keeps true: a copy never changes; two maps with the same content are equal, however they came to it.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::ops::Index;
use std::sync::Arc;

/// Values of a leaf at most. A first change after a copy copies so many keys and pointers, some microseconds.
const LEAF: usize = 64;

/// A leaf that has become this small is joined to a neighbour, if both fit into three quarters of a leaf.
const SMALL: usize = LEAF / 4;

type Leaf<K, V> = Vec<(K, Arc<V>)>;

/// An ordered map that is cheap to copy.
pub struct SharedMap<K, V> {
    /// By a key that is at or below all of the leaf, and above all of the leaf before. No leaf is empty.
    leaves: BTreeMap<K, Arc<Leaf<K, V>>>,
    /// Exactly the number of values.
    len: usize,
}

impl<K, V> SharedMap<K, V> {
    /// Without values.
    pub fn new() -> SharedMap<K, V> {
        SharedMap { leaves: BTreeMap::new(), len: 0 }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All values, in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        let all = self.leaves.values().flat_map(|leaf| leaf.iter()).map(|(key, value)| (key, &**value));
        Counted { all, left: self.len }
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// The value of a key, and the key as it is kept here.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (_, leaf) = self.leaves.range::<Q, _>((Unbounded, Included(key))).next_back()?;
        let (key, value) = &leaf[place(leaf, key).ok()?];
        Some((key, value))
    }

    /// Whether a key has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).is_some()
    }

    /// The values of the keys within bounds, in order; none if the bounds are the wrong way round.
    pub fn range<'a, 't, Q: Ord + ?Sized>(
        &'a self,
        (from, to): (Bound<&Q>, Bound<&'t Q>),
    ) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, 't, K, V, Q>
    where
        K: Borrow<Q>,
    {
        let first = match from {
            Unbounded => None,
            Included(key) | Excluded(key) => self.leaves.range::<Q, _>((Unbounded, Included(key))).next_back(),
        };
        let before = |key: &K| match from {
            Unbounded => false,
            Included(from) => *key.borrow() < *from,
            Excluded(from) => *key.borrow() <= *from,
        };
        let within = move |key: &K| match to {
            Unbounded => true,
            Included(to) => *key.borrow() <= *to,
            Excluded(to) => *key.borrow() < *to,
        };
        let (head, rest) = match first {
            None => (&[][..], self.leaves.range::<K, _>(..)),
            Some((at, leaf)) => {
                let skipped = leaf.partition_point(|(key, _)| before(key));
                (&leaf[skipped..], self.leaves.range::<K, _>((Excluded(at), Unbounded)))
            }
        };
        let all = head.iter().chain(rest.flat_map(|(_, leaf)| leaf.iter()));
        all.map(|(key, value)| (key, &**value)).take_while(move |(key, _)| within(key))
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// The value of a key, to be changed: here only.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (_, leaf) = self.leaves.range_mut::<Q, _>((Unbounded, Included(key))).next_back()?;
        let place = place(leaf, key).ok()?;
        Some(Arc::make_mut(&mut Arc::make_mut(leaf)[place].1))
    }

    /// The value of a key; one that has none gets it from `make`.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if !self.contains_key(&key) {
            self.insert(key.clone(), make());
        }
        self.get_mut(&key).expect("it was there or has just been put there")
    }

    /// Gives a key a value, and returns the one that it had. Nobody who has that value in a copy notices.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let is_last = self.leaves.last_key_value().is_none_or(|(at, _)| *at <= key);
        let Some((_, leaf)) = self.leaves.range_mut((Unbounded, Included(&key))).next_back() else {
            self.insert_first(key, value);
            return None;
        };
        let place = match place(leaf, &key) {
            Ok(place) => {
                let old = std::mem::replace(&mut Arc::make_mut(leaf)[place].1, Arc::new(value));
                return Some(Arc::unwrap_or_clone(old));
            }
            Err(place) => place,
        };
        self.len += 1;
        if leaf.len() < LEAF {
            Arc::make_mut(leaf).insert(place, (key, Arc::new(value)));
            return None;
        }
        if is_last && place == LEAF {
            // Keys that only rise fill their leaves.
            self.leaves.insert(key.clone(), Arc::new(vec![(key, Arc::new(value))]));
            return None;
        }
        let lower = Arc::make_mut(leaf);
        let mut upper = lower.split_off(LEAF / 2);
        match place.checked_sub(LEAF / 2) {
            Some(place) => upper.insert(place, (key, Arc::new(value))),
            None => lower.insert(place, (key, Arc::new(value))),
        }
        self.leaves.insert(upper[0].0.clone(), Arc::new(upper));
        None
    }

    /// Takes the value of a key out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (at, leaf) = self.leaves.range_mut::<Q, _>((Unbounded, Included(key))).next_back()?;
        let place = place(leaf, key).ok()?;
        let leaf = Arc::make_mut(leaf);
        let (_, value) = leaf.remove(place);
        self.len -= 1;
        if leaf.len() < SMALL {
            let at = at.clone();
            self.join(&at);
        }
        Some(Arc::unwrap_or_clone(value))
    }

    /// Changes every value, here only.
    pub fn for_each_mut(&mut self, mut change: impl FnMut(&mut V)) {
        for leaf in self.leaves.values_mut() {
            Arc::make_mut(leaf).iter_mut().for_each(|(_, value)| change(Arc::make_mut(value)));
        }
    }

    /// A key below all others.
    fn insert_first(&mut self, key: K, value: V) {
        self.len += 1;
        let entry = (key.clone(), Arc::new(value));
        let first = match self.leaves.first_key_value() {
            Some((_, leaf)) if leaf.len() < LEAF => self.leaves.pop_first(),
            Some(_) | None => None,
        };
        let leaf = match first {
            Some((_, mut leaf)) => {
                Arc::make_mut(&mut leaf).insert(0, entry);
                leaf
            }
            None => Arc::new(vec![entry]),
        };
        self.leaves.insert(key, leaf);
    }

    /// Joins a small leaf to a neighbour, so that leaves stay few; an empty one goes.
    fn join(&mut self, at: &K) {
        let small = self.leaves[at].len();
        if small == 0 {
            self.leaves.remove(at);
            return;
        }
        let fits = |other: &Arc<Leaf<K, V>>| other.len() + small <= LEAF / 4 * 3;
        let next = self.leaves.range((Excluded(at), Unbounded)).next().filter(|(_, leaf)| fits(leaf));
        let lower_and_upper = match next {
            Some((next, _)) => Some((at.clone(), next.clone())),
            None => {
                let previous = self.leaves.range((Unbounded, Excluded(at))).next_back().filter(|(_, leaf)| fits(leaf));
                previous.map(|(previous, _)| (previous.clone(), at.clone()))
            }
        };
        let Some((lower, upper)) = lower_and_upper else { return };
        let upper = self.leaves.remove(&upper).expect("it was found above");
        let lower = self.leaves.get_mut(&lower).expect("it was found above");
        Arc::make_mut(lower).extend(Arc::unwrap_or_clone(upper));
    }
}

/// Where a key is in a leaf, or would be.
fn place<K: Borrow<Q>, V, Q: Ord + ?Sized>(leaf: &[(K, Arc<V>)], key: &Q) -> Result<usize, usize> {
    leaf.binary_search_by(|(other, _)| other.borrow().cmp(key))
}

/// An iterator that knows how much is left.
struct Counted<I> {
    all: I,
    left: usize,
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let next = self.all.next();
        self.left -= usize::from(next.is_some());
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<I: Iterator> ExactSizeIterator for Counted<I> {}

impl<K: Clone, V> Clone for SharedMap<K, V> {
    /// Shares all values.
    fn clone(&self) -> SharedMap<K, V> {
        SharedMap { leaves: self.leaves.clone(), len: self.len }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> SharedMap<K, V> {
        SharedMap::new()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &SharedMap<K, V>) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for SharedMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Borrow<Q> + Ord, V, Q: Ord + ?Sized> Index<&Q> for SharedMap<K, V> {
    type Output = V;

    /// Panics if the key has no value.
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("the key has a value")
    }
}

impl<'a, K, V> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Box<dyn Iterator<Item = (&'a K, &'a V)> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl SharedMap<u16, u32> {
        fn check(&self) {
            let mut len = 0;
            let mut last = None;
            for (at, leaf) in &self.leaves {
                assert!(!leaf.is_empty() && leaf.len() <= LEAF, "a leaf of {}", leaf.len());
                assert!(last < Some(*at), "a leaf begins within the one before");
                for (key, _) in leaf.iter() {
                    assert!(*key >= *at && (last < Some(*key)), "{key} is out of order");
                    last = Some(*key);
                }
                len += leaf.len();
            }
            assert_eq!(len, self.len);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16),
        Remove(u16),
        Change(u16),
        Copy,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = || prop_oneof![0u16..40, 0u16..2_000];
        let step = prop_oneof![
            6 => key().prop_map(Step::Insert),
            4 => key().prop_map(Step::Remove),
            4 => key().prop_map(Step::Change),
            1 => Just(Step::Copy),
        ];
        prop::collection::vec(step, 0..800)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn it_is_a_map_and_a_copy_stays_as_it_was(steps in steps(), bounds in (0u16..2_000, 0u16..2_000)) {
            let (mut map, mut model) = (SharedMap::new(), BTreeMap::new());
            let mut copies = Vec::new();
            for (number, step) in (0u32..).zip(steps) {
                match step {
                    Step::Insert(key) => prop_assert_eq!(map.insert(key, number), model.insert(key, number)),
                    Step::Remove(key) => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    Step::Change(key) => {
                        let changed = map.get_mut(&key).map(|value| *value += 1);
                        prop_assert_eq!(changed, model.get_mut(&key).map(|value| *value += 1));
                    }
                    Step::Copy => copies.push((map.clone(), model.clone())),
                }
            }
            copies.push((map, model));
            for (map, model) in &copies {
                map.check();
                prop_assert!(map.iter().eq(model));
                prop_assert_eq!(map.iter().len(), model.len());
                let (from, to) = bounds;
                let expected = || model.iter().filter(move |(key, _)| **key >= from && **key < to);
                prop_assert!(map.range((Included(&from), Excluded(&to))).eq(expected()));
                let expected = model.iter().filter(|(key, _)| **key > from && **key <= to);
                prop_assert!(map.range((Excluded(&from), Included(&to))).eq(expected));
                prop_assert!(model.iter().all(|(key, value)| map.get(key) == Some(value)));
                let again: SharedMap<u16, u32> = model.iter().rev().fold(SharedMap::new(), |mut map, (key, value)| {
                    map.insert(*key, *value);
                    map
                });
                prop_assert_eq!(map, &again);
            }
        }
    }

    #[test]
    fn keys_that_rise_fill_their_leaves_and_a_map_that_shrinks_has_few() {
        let mut map = SharedMap::new();
        for key in 0..(10 * LEAF as u16) {
            map.insert(key, 0);
        }
        assert_eq!(map.leaves.len(), 10);
        for key in 0..(10 * LEAF as u16) {
            if key % 32 != 0 {
                map.remove(&key);
            }
        }
        map.check();
        assert!(map.leaves.len() <= 3, "{} leaves of 20 values", map.leaves.len());
    }
}
