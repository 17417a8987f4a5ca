//! The youngest entries of a log, in memory: what was submitted is readable at once, and followers that keep up are served
//! without touching sled. It does no I/O and takes no lock. It keeps true: an entry leaves it only when it is durable.

use std::collections::VecDeque;

use bytes::Bytes;

/// A contiguous run of entries that ends at the log's last one.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// The index of the front entry; meaningless while empty.
    first: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    /// The submit that brought it: durable when that submit is.
    submit: u64,
}

impl Tail {
    /// Adds the next entry of the log.
    pub(crate) fn push(&mut self, index: u64, bytes: Bytes, submit: u64) {
        if self.entries.is_empty() {
            self.first = index;
        }
        assert_eq!(index, self.end(), "the log's own rules were checked before");
        self.bytes += bytes.len();
        self.entries.push_back(Entry { bytes, submit });
    }

    /// Drops everything outside `first..=last`, as the log did.
    pub(crate) fn keep(&mut self, first: u64, last: Option<u64>) {
        let Some(last) = last else { return self.clear() };
        while !self.entries.is_empty() && self.end() > last + 1 {
            self.pop(VecDeque::pop_back);
        }
        while !self.entries.is_empty() && self.first < first {
            self.pop(VecDeque::pop_front);
            self.first += 1;
        }
    }

    /// Drops the oldest durable entries while more than `limit` bytes are held.
    pub(crate) fn evict(&mut self, limit: usize, synced_submit: u64) {
        while self.bytes > limit && self.entries.front().is_some_and(|entry| entry.submit <= synced_submit) {
            self.pop(VecDeque::pop_front);
            self.first += 1;
        }
    }

    /// Where the entries begin that are here; everything below lies on disk. `None` while nothing is here.
    pub(crate) fn first(&self) -> Option<u64> {
        (!self.entries.is_empty()).then_some(self.first)
    }

    /// The entries of `from..to` that are here, in order.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Bytes)> {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries
            .iter()
            .enumerate()
            .skip(skip)
            .map(|(offset, entry)| (self.first + offset as u64, &entry.bytes))
            .take_while(move |(index, _)| *index < to)
    }

    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn pop(&mut self, pop: impl FnOnce(&mut VecDeque<Entry>) -> Option<Entry>) {
        if let Some(entry) = pop(&mut self.entries) {
            self.bytes -= entry.bytes.len();
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Tail {
        let mut tail = Tail::default();
        for index in 10..20 {
            tail.push(index, Bytes::from(vec![0; 100]), index);
        }
        tail
    }

    fn indexes(tail: &Tail, from: u64, to: u64) -> Vec<u64> {
        tail.range(from, to).map(|(index, _)| index).collect()
    }

    #[test]
    fn only_durable_entries_are_evicted() {
        let mut tail = filled();
        tail.evict(0, 12);
        assert_eq!(tail.first(), Some(13), "13 and later are not durable");
        tail.evict(500, 100);
        assert_eq!(tail.first(), Some(15), "no more than asked for");
        assert_eq!(indexes(&tail, 0, 17), [15, 16]);
    }

    #[test]
    fn it_follows_truncation_and_purge() {
        let mut tail = filled();
        tail.keep(12, Some(15));
        assert_eq!(indexes(&tail, 0, 100), [12, 13, 14, 15]);
        tail.push(16, Bytes::new(), 30);
        assert_eq!(indexes(&tail, 14, 16), [14, 15]);
        tail.keep(0, None);
        assert_eq!(tail.first(), None);
        tail.push(40, Bytes::new(), 31);
        assert_eq!(indexes(&tail, 0, 100), [40]);
        tail.keep(0, Some(5));
        assert_eq!(tail.first(), None, "everything here was above the truncation");
    }
}
