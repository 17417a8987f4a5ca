//! A queue of which a copy shares everything: short queues behind counted pointers. See [`super::SharedMap`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Values of a part at most.
const PART: usize = 32;

/// A queue that is cheap to copy.
pub struct SharedQueue<T> {
    /// None is empty; all but the first and the last have [`PART`] values.
    parts: VecDeque<Arc<VecDeque<T>>>,
}

impl<T> SharedQueue<T> {
    /// Without values.
    pub fn new() -> SharedQueue<T> {
        SharedQueue { parts: VecDeque::new() }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        match (self.parts.front(), self.parts.back()) {
            (Some(first), Some(last)) if self.parts.len() > 1 => {
                first.len() + (self.parts.len() - 2) * PART + last.len()
            }
            (first, _) => first.map_or(0, |only| only.len()),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// One value by its place, oldest first.
    pub fn get(&self, place: usize) -> Option<&T> {
        let first = self.parts.front()?;
        match place.checked_sub(first.len()) {
            None => first.get(place),
            Some(behind) => self.parts.get(1 + behind / PART)?.get(behind % PART),
        }
    }

    /// The oldest.
    pub fn front(&self) -> Option<&T> {
        self.parts.front()?.front()
    }

    /// The newest.
    pub fn back(&self) -> Option<&T> {
        self.parts.back()?.back()
    }

    /// All values, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    /// How many values come before the first for which `is_before` does not hold; it holds for a beginning of them only.
    pub fn partition_point(&self, mut is_before: impl FnMut(&T) -> bool) -> usize {
        let part = self.parts.partition_point(|part| part.back().is_some_and(&mut is_before));
        let before = match (part, self.parts.front()) {
            (0, _) | (_, None) => 0,
            (part, Some(first)) => first.len() + (part - 1) * PART,
        };
        match self.parts.get(part) {
            Some(part) => before + part.partition_point(is_before),
            None => self.len(),
        }
    }
}

impl<T: Clone> SharedQueue<T> {
    /// Puts a value behind all others, here only.
    pub fn push_back(&mut self, value: T) {
        match self.parts.back_mut().filter(|last| last.len() < PART) {
            Some(last) => Arc::make_mut(last).push_back(value),
            None => self.parts.push_back(Arc::new(VecDeque::from([value]))),
        }
        // Between the first and the last only whole parts may lie; the first shrinks, and nothing is put into it later.
        debug_assert!(self.parts.iter().skip(1).rev().skip(1).all(|part| part.len() == PART));
    }

    /// Takes the oldest value, here only.
    pub fn pop_front(&mut self) -> Option<T> {
        let first = Arc::make_mut(self.parts.front_mut()?);
        let value = first.pop_front();
        if first.is_empty() {
            self.parts.pop_front();
        }
        value
    }

    /// Takes the newest value, here only.
    pub fn pop_back(&mut self) -> Option<T> {
        let last = Arc::make_mut(self.parts.back_mut()?);
        let value = last.pop_back();
        if last.is_empty() {
            self.parts.pop_back();
        }
        value
    }
}

impl<T> Clone for SharedQueue<T> {
    /// Shares all values.
    fn clone(&self) -> SharedQueue<T> {
        SharedQueue { parts: self.parts.clone() }
    }
}

impl<T> Default for SharedQueue<T> {
    fn default() -> SharedQueue<T> {
        SharedQueue::new()
    }
}

impl<T: PartialEq> PartialEq for SharedQueue<T> {
    fn eq(&self, other: &SharedQueue<T>) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<T: Eq> Eq for SharedQueue<T> {}

impl<T: fmt::Debug> fmt::Debug for SharedQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Clone> FromIterator<T> for SharedQueue<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> SharedQueue<T> {
        let mut queue = SharedQueue::new();
        values.into_iter().for_each(|value| queue.push_back(value));
        queue
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        /// 0 to 5 put a value in, 6 to 8 take the oldest, 9 makes a copy.
        #[test]
        fn it_is_a_queue_and_a_copy_stays_as_it_was(steps in prop::collection::vec(0u8..10, 0..600)) {
            let (mut queue, mut model) = (SharedQueue::new(), VecDeque::new());
            let mut copies = Vec::new();
            for (number, step) in (0u32..).zip(steps) {
                match step {
                    0..6 => {
                        queue.push_back(number);
                        model.push_back(number);
                    }
                    6..9 => prop_assert_eq!(queue.pop_front(), model.pop_front()),
                    _ => copies.push((queue.clone(), model.clone())),
                }
            }
            copies.push((queue, model));
            for (queue, model) in &copies {
                prop_assert!(queue.iter().eq(model));
                prop_assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!((queue.front(), queue.back()), (model.front(), model.back()));
                prop_assert!((0..=model.len()).all(|place| queue.get(place) == model.get(place)));
                for bound in [0, 100, 300, 600] {
                    prop_assert_eq!(queue.partition_point(|it| *it < bound), model.partition_point(|it| *it < bound));
                }
                prop_assert_eq!(&model.iter().copied().collect::<SharedQueue<u32>>(), queue);
            }
        }
    }
}
