//! Reads of many keys: as they are or as they were, some of them, in some order.

use std::ops::RangeInclusive;

use palisade_wire::coord::v1::{self, key_range, read_op};

use crate::kv::client;
use crate::{Client, Error, Header, KeyValue, Keys, Reading};

/// What to read. By default everything about the keys, as they are, in their order, linearizably.
///
/// ```
/// use palisade_client::{Direction, Keys, RangeOptions, SortBy};
///
/// let newest_ten = RangeOptions::new(Keys::prefix("jobs/")).sort(SortBy::ModRevision, Direction::Descending).limit(10);
/// let how_many_then = RangeOptions::new(Keys::prefix("jobs/")).at(1_207).count_only();
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct RangeOptions {
    pub(crate) read: v1::ReadOp,
    reading: Reading,
}

/// What to sort by. What is equal comes in the order of keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SortBy {
    /// The key.
    #[default]
    Key,
    /// How often it was written.
    Version,
    /// When it came into being.
    CreateRevision,
    /// When it was written last.
    ModRevision,
    /// Its value.
    Value,
}

/// Which comes first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Direction {
    /// The smallest.
    #[default]
    Ascending,
    /// The largest.
    Descending,
}

impl RangeOptions {
    /// These keys.
    pub fn new(keys: impl Into<Keys>) -> RangeOptions {
        let read = v1::ReadOp { keys: Some(keys.into().to_wire()), ..v1::ReadOp::default() };
        RangeOptions { read, reading: Reading::Linearizable }
    }

    /// As they were after this revision.
    #[must_use]
    pub fn at(mut self, revision: u64) -> RangeOptions {
        self.read.revision = revision;
        self
    }

    /// At most so many, after sorting. One answer has at most 2 MiB in any case: [`RangeOptions::after`] goes on from there.
    #[must_use]
    pub fn limit(mut self, keys: u64) -> RangeOptions {
        self.read.limit = keys;
        self
    }

    /// In this order.
    #[must_use]
    pub fn sort(mut self, by: SortBy, direction: Direction) -> RangeOptions {
        let by = match by {
            SortBy::Key => read_op::Field::Key,
            SortBy::Version => read_op::Field::Version,
            SortBy::CreateRevision => read_op::Field::CreateRevision,
            SortBy::ModRevision => read_op::Field::ModRevision,
            SortBy::Value => read_op::Field::Value,
        };
        self.read.sort_by = by.into();
        self.read.descending = direction == Direction::Descending;
        self
    }

    /// Without the values.
    #[must_use]
    pub fn keys_only(mut self) -> RangeOptions {
        self.read.show = read_op::Show::NoValues.into();
        self
    }

    /// Only how many there are.
    #[must_use]
    pub fn count_only(mut self) -> RangeOptions {
        self.read.show = read_op::Show::Count.into();
        self
    }

    /// Only keys written last within these revisions.
    #[must_use]
    pub fn mod_revisions(mut self, revisions: RangeInclusive<u64>) -> RangeOptions {
        (self.read.min_mod_revision, self.read.max_mod_revision) = revisions.into_inner();
        self
    }

    /// Only keys that came into being within these revisions.
    #[must_use]
    pub fn create_revisions(mut self, revisions: RangeInclusive<u64>) -> RangeOptions {
        (self.read.min_create_revision, self.read.max_create_revision) = revisions.into_inner();
        self
    }

    /// What is left after an answer to these options that was cut off: the same keys behind the last one that came, as they
    /// were at the revision of that answer, and as many as are left of the limit. `None`: all has come that was asked for; or
    /// the order is not that of keys, and has no place to go on from.
    ///
    /// The past that it reads can be compacted meanwhile ([`crate::ErrorKind::Compacted`]): then it begins again.
    pub fn after(&self, answer: &Ranged) -> Option<RangeOptions> {
        let Found { kvs, more, .. } = &answer.found;
        let last = kvs.last().filter(|_| *more && self.read.sort_by() == read_op::Field::Key)?;
        let mut rest = self.clone();
        if rest.read.limit > 0 {
            rest.read.limit = rest.read.limit.saturating_sub(kvs.len() as u64);
            if rest.read.limit == 0 {
                return None;
            }
        }
        if rest.read.revision == 0 {
            rest.read.revision = answer.header.revision;
        }
        rest.read.keys = Some(behind(rest.read.keys?, &last.key, self.read.descending)?);
        Some(rest)
    }

    /// From whichever node answers, as it has applied: it may be behind, but not behind what this client has seen. Served
    /// without a store leader, too. In a transaction it means nothing.
    #[must_use]
    pub fn serializable(mut self) -> RangeOptions {
        self.reading = Reading::Serializable;
        self
    }
}

/// Keys were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ranged {
    /// Of the state that was read.
    pub header: Header,
    /// What was found.
    pub found: Found,
}

/// What a read found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// In the order that was asked for.
    pub kvs: Vec<KeyValue>,
    /// Of all keys in the range, also beyond limits and filters.
    pub count: u64,
    /// A limit left some out, the one that was asked for or 2 MiB: [`RangeOptions::after`] reads on.
    pub more: bool,
}

/// The part of a range that comes after a key of it; `None`: the range has no other key.
fn behind(keys: v1::KeyRange, last: &[u8], descending: bool) -> Option<v1::KeyRange> {
    let v1::KeyRange { key, until } = keys;
    if descending {
        until?;
        return Some(v1::KeyRange { key, until: Some(key_range::Until::To(last.to_vec())) });
    }
    let next = [last, &[0]].concat();
    let until = match until? {
        key_range::Until::Prefix(_) => end_of_prefix(key),
        until @ (key_range::Until::To(_) | key_range::Until::Rest(_)) => until,
    };
    Some(v1::KeyRange { key: next, until: Some(until) })
}

/// The first key that no longer begins so.
fn end_of_prefix(mut prefix: Vec<u8>) -> key_range::Until {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return key_range::Until::To(prefix);
        }
    }
    key_range::Until::Rest(key_range::Rest {})
}

impl Ranged {
    pub(crate) fn of(reply: v1::RangeReply) -> Ranged {
        let found = Found::of(reply.result.unwrap_or_default());
        Ranged { header: Header::of(reply.header.as_ref()), found }
    }
}

impl RangeOptions {
    pub(crate) fn request(self) -> v1::RangeRequest {
        v1::RangeRequest { read: Some(self.read), serializable: self.reading.is_serializable() }
    }
}

impl Found {
    pub(crate) fn of(result: v1::ReadResult) -> Found {
        Found { kvs: result.kvs.into_iter().map(KeyValue::of).collect(), count: result.count, more: result.more }
    }
}

impl Client {
    /// Reads keys.
    pub async fn range(&self, options: RangeOptions) -> Result<Ranged, Error> {
        let repeat = options.reading.repeat();
        let request = options.request();
        let ask = self.shared.request(repeat, |channel| {
            let request = request.clone();
            async move { client(channel).range(request).await }
        });
        Ok(Ranged::of(ask.await?))
    }

    /// Reads keys in as many requests as they need, all as they are at the revision of the first: what is held in memory is
    /// bounded by nothing but the limit that is asked for. In another order than that of keys, all of them are read, and sorted
    /// here.
    pub async fn range_all(&self, options: RangeOptions) -> Result<Ranged, Error> {
        let limit = usize::try_from(options.read.limit).ok().filter(|limit| *limit > 0);
        let first = self.range(options.clone()).await?;
        let is_whole = |found: &Found| !found.more || limit.is_some_and(|limit| found.kvs.len() >= limit);
        if is_whole(&first.found) {
            return Ok(first);
        }
        let by = options.read.sort_by();
        if by == read_op::Field::Key {
            return self.read_on(options, first).await;
        }
        let (descending, values) = (options.read.descending, options.read.show());
        let revision = if options.read.revision == 0 { first.header.revision } else { options.read.revision };
        let mut by_key = options.sort(SortBy::Key, Direction::Ascending).limit(0).at(revision);
        if by == read_op::Field::Value {
            by_key.read.show = read_op::Show::Whole.into();
        }
        let start = self.range(by_key.clone()).await?;
        let Ranged { header, found: Found { mut kvs, count, .. } } = self.read_on(by_key, start).await?;
        // Equal ones stay in the order of keys, also when the largest come first.
        kvs.sort_by(|a, b| {
            let order = compare(by, a, b);
            if descending { order.reverse() } else { order }
        });
        let more = limit.is_some_and(|limit| kvs.len() > limit);
        kvs.truncate(limit.unwrap_or(usize::MAX));
        if values == read_op::Show::NoValues {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        Ok(Ranged { header, found: Found { kvs, count, more } })
    }

    /// The pages after the first. How many there are in all is what the first said.
    async fn read_on(&self, options: RangeOptions, first: Ranged) -> Result<Ranged, Error> {
        let (mut rest, mut all) = (options.after(&first), first);
        while let Some(options) = rest {
            let page = self.range(options.clone()).await?;
            rest = options.after(&page);
            all.found.more = page.found.more;
            all.found.kvs.extend(page.found.kvs);
        }
        Ok(all)
    }
}

fn compare(by: read_op::Field, a: &KeyValue, b: &KeyValue) -> std::cmp::Ordering {
    match by {
        read_op::Field::Key => a.key.cmp(&b.key),
        read_op::Field::Version => a.version.cmp(&b.version),
        read_op::Field::CreateRevision => a.create_revision.cmp(&b.create_revision),
        read_op::Field::ModRevision => a.mod_revision.cmp(&b.mod_revision),
        read_op::Field::Value => a.value.cmp(&b.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(keys: &[&str], more: bool) -> Ranged {
        let kv = |key: &&str| KeyValue::of(v1::KeyValue { key: key.as_bytes().to_vec(), ..v1::KeyValue::default() });
        let found = Found { kvs: keys.iter().map(kv).collect(), count: 9, more };
        Ranged { header: Header { revision: 7, ..Header::default() }, found }
    }

    fn rest(options: &RangeOptions, answer: &Ranged) -> Option<(Vec<u8>, Option<key_range::Until>, u64, u64)> {
        let read = options.after(answer)?.read;
        let keys = read.keys.expect("there is a range");
        Some((keys.key, keys.until, read.revision, read.limit))
    }

    fn to(key: &str) -> Option<key_range::Until> {
        Some(key_range::Until::To(key.as_bytes().to_vec()))
    }

    #[test]
    fn it_goes_on_behind_the_last_key_at_the_same_revision() {
        let cut = answer(&["a/1", "a/2"], true);
        let behind = b"a/2\0".to_vec();
        let prefix = RangeOptions::new(Keys::prefix("a/"));
        assert_eq!(rest(&prefix, &cut), Some((behind.clone(), to("a0"), 7, 0)));
        assert_eq!(rest(&prefix.clone().at(5), &cut), Some((behind.clone(), to("a0"), 5, 0)));
        let span = RangeOptions::new(Keys::Span { from: b"a".to_vec(), to: b"z".to_vec() });
        assert_eq!(rest(&span, &cut), Some((behind.clone(), to("z"), 7, 0)));
        assert_eq!(rest(&RangeOptions::new(Keys::all()), &cut), Some((behind.clone(), all_rest(), 7, 0)));
        assert_eq!(rest(&RangeOptions::new(Keys::From(b"a".to_vec())), &cut), Some((behind, all_rest(), 7, 0)));
        let down = prefix.sort(SortBy::Key, Direction::Descending);
        assert_eq!(rest(&down, &answer(&["a/9", "a/8"], true)), Some((b"a/".to_vec(), to("a/8"), 7, 0)));
    }

    fn all_rest() -> Option<key_range::Until> {
        Some(key_range::Until::Rest(key_range::Rest {}))
    }

    #[test]
    fn it_ends_with_the_keys_or_with_the_limit() {
        let prefix = RangeOptions::new(Keys::prefix("a/"));
        assert_eq!(prefix.after(&answer(&["a/1"], false)), None);
        assert_eq!(prefix.after(&answer(&[], true)), None, "nothing came: it would never end");
        assert_eq!(RangeOptions::new("a").after(&answer(&["a"], true)), None, "there is no other key");
        let three = prefix.limit(3);
        let (.., left) = rest(&three, &answer(&["a/1", "a/2"], true)).expect("one is left");
        assert_eq!(left, 1);
        assert_eq!(three.after(&answer(&["a/1", "a/2", "a/3"], true)), None);
        let by_value = three.sort(SortBy::Value, Direction::Ascending);
        assert_eq!(by_value.after(&answer(&["a/1"], true)), None, "there is no place to go on from");
    }

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(end_of_prefix(b"ab".to_vec()), key_range::Until::To(b"ac".to_vec()));
        assert_eq!(end_of_prefix(b"a\xff\xff".to_vec()), key_range::Until::To(b"b".to_vec()));
        assert_eq!(Some(end_of_prefix(b"\xff".to_vec())), all_rest());
    }
}
