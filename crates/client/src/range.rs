//! Reads of many keys: as they are or as they were, some of them, in some order.

use std::ops::RangeInclusive;

use palisade_wire::coord::v1::{self, read_op};

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

    /// At most so many, after sorting. One answer has at most 2 MiB in any case.
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
    /// A limit left some out, the one that was asked for or 2 MiB: read on from the last key that came.
    pub more: bool,
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
}
