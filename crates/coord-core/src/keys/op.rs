//! What can be asked about keys, and what is answered. Everything is named and means what it does in etcd v3, except fences,
//! which etcd does not have, and sessions, which are etcd's leases.

use std::ops::Bound;

use palisade_fence::Fence;

use crate::{Revision, SessionId};

/// An operation on keys. Alone or in a transaction it does the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyOp {
    /// Writes a key.
    Put(Put),
    /// Removes keys; removing nothing is no error, and no revision.
    Delete(Delete),
    /// Reads keys. In a transaction it sees what came before it there.
    Read(Read),
    /// Does one of two lists of operations, whole or not at all, under one revision.
    Txn(Txn),
}

/// Which keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keys {
    /// This one.
    One(Vec<u8>),
    /// Those from `from` on and before `to`; none if there are none in between.
    Span {
        /// The first that can be meant.
        from: Vec<u8>,
        /// The first that is not.
        to: Vec<u8>,
    },
    /// This one, if it is there, and all after it.
    From(Vec<u8>),
}

/// Where keys begin and end, in their order.
pub(crate) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Writes a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// The key.
    pub key: Vec<u8>,
    /// Its new value; `None`: the one that it has, and the key must be there.
    pub value: Option<Vec<u8>>,
    /// The session that it is to end with.
    pub session: Binding,
    /// Whether the answer has what was there before.
    pub shows_previous: bool,
    /// Write only if this is the election's current token.
    pub fence: Option<Fence>,
}

/// The session that a key is bound to: when that ends, the key is removed by the same command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Binding {
    /// To none; one that it was bound to lets it go.
    #[default]
    None,
    /// To this one, which must live.
    To(SessionId),
    /// As it is; the key must be there.
    Keep,
}

/// Removes keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delete {
    /// Which.
    pub keys: Keys,
    /// Whether the answer has what was there before.
    pub shows_previous: bool,
    /// Remove only if this is the election's current token.
    pub fence: Option<Fence>,
}

/// Reads keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read {
    /// Which.
    pub keys: Keys,
    /// As they were after this revision; `None`: as they are.
    pub revision: Option<Revision>,
    /// At most so many, after sorting; zero: all.
    pub limit: u64,
    /// In which order.
    pub order: Order,
    /// How much of them.
    pub shows: Shows,
    /// Only those written last within these revisions.
    pub written: Within,
    /// Only those that came into being within these revisions.
    pub created: Within,
}

/// The order of an answer. Keys that are equal in it come in the order of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Order {
    /// By what.
    pub by: Field,
    /// Whether the largest comes first.
    pub descending: bool,
}

/// What can be sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Field {
    /// The key itself.
    #[default]
    Key,
    /// How often it was written.
    Version,
    /// When it came into being.
    Created,
    /// When it was written last.
    Written,
    /// Its value.
    Value,
}

/// How much of what is found an answer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Shows {
    /// Everything.
    #[default]
    Whole,
    /// All but the values, which are empty.
    NoValues,
    /// Only how many.
    Count,
}

/// From the first to the last revision, both included. By default all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Within {
    /// Not before.
    pub first: Revision,
    /// Not after.
    pub last: Revision,
}

/// A transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Txn {
    /// Do anything only if this is the election's current token.
    pub fence: Option<Fence>,
    /// All must hold, before anything is done, for `success`; else `failure`.
    pub compare: Vec<Compare>,
    /// What to do then, in order.
    pub success: Vec<KeyOp>,
    /// What to do else, in order.
    pub failure: Vec<KeyOp>,
}

/// A condition on keys: each must meet it. A key that is not there has zeros for numbers, no session, and meets no condition on
/// its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compare {
    /// Which.
    pub keys: Keys,
    /// How what they have is to stand to the operand.
    pub relation: Relation,
    /// What they are compared with.
    pub operand: Operand,
}

/// How one thing stands to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relation {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// Above it.
    Greater,
    /// Below it.
    Less,
}

/// What keys are compared with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operand {
    /// How often they were written.
    Version(u64),
    /// When they came into being.
    Created(Revision),
    /// When they were written last.
    Written(Revision),
    /// Their value.
    Value(Vec<u8>),
    /// The session that they are bound to; `None` is below every session.
    Session(Option<SessionId>),
}

/// What came of an operation on keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyReply {
    /// The key is written.
    Put {
        /// Its version after this write; 1: the key was new.
        version: u64,
        /// What was there before, if it was asked for and there was something.
        previous: Option<KeyValue>,
    },
    /// The keys are not there.
    Deleted {
        /// How many went.
        deleted: u64,
        /// What was there before, if it was asked for, in the order of keys.
        previous: Vec<Found>,
    },
    /// What was read.
    Read(Findings),
    /// The transaction is done.
    Txn {
        /// Whether all conditions held.
        succeeded: bool,
        /// One for each operation that was done, in order.
        replies: Vec<KeyReply>,
    },
    /// It was done, and this does not say more: its keys and values were not kept for the repetition of a request, or are
    /// more than [`crate::limits::MAX_REPLY_BYTES`].
    NotKept,
}

/// What a read found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings {
    /// In the order that was asked for.
    pub found: Vec<Found>,
    /// How many keys there are, also beyond the limit and the filters.
    pub count: u64,
    /// Whether a limit left some out: the one that was asked for, or [`crate::limits::MAX_REPLY_BYTES`].
    pub more: bool,
}

/// A key that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The key.
    pub key: Vec<u8>,
    /// What it has.
    pub kv: KeyValue,
}

/// A key's value, with etcd's counters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyValue {
    /// The value.
    pub value: Vec<u8>,
    /// When the key came into being. Never above `mod_revision`.
    pub create_revision: Revision,
    /// When it was written last.
    pub mod_revision: Revision,
    /// Writes since it came into being; at least 1.
    pub version: u64,
    /// The session that it ends with. Lives, as long as this is what the key has.
    pub session: Option<SessionId>,
}

impl Put {
    /// A plain write of a value.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Put {
        let (key, value) = (key.into(), Some(value.into()));
        Put { key, value, session: Binding::None, shows_previous: false, fence: None }
    }
}

impl Delete {
    /// A plain removal.
    pub fn new(keys: Keys) -> Delete {
        Delete { keys, shows_previous: false, fence: None }
    }
}

impl Read {
    /// Everything about these keys, as they are, in their order.
    pub fn new(keys: Keys) -> Read {
        Read {
            keys,
            revision: None,
            limit: 0,
            order: Order::default(),
            shows: Shows::default(),
            written: Within::default(),
            created: Within::default(),
        }
    }
}

impl Default for Within {
    fn default() -> Within {
        Within { first: Revision(0), last: Revision(u64::MAX) }
    }
}

impl Within {
    pub(crate) fn has(&self, revision: Revision) -> bool {
        (self.first..=self.last).contains(&revision)
    }
}

impl Keys {
    /// All keys that begin with this.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Keys {
        let from = prefix.into();
        // What follows the prefix: its last byte that can be raised, raised. A prefix of 0xff only is followed by nothing.
        match from.iter().rposition(|&byte| byte < u8::MAX) {
            None => Keys::From(from),
            Some(raised) => {
                let mut to = from[..=raised].to_vec();
                to[raised] += 1;
                Keys::Span { from, to }
            }
        }
    }

    /// Whether it is one of them.
    pub fn has(&self, key: &[u8]) -> bool {
        match self {
            Keys::One(one) => one == key,
            Keys::Span { from, to } => from.as_slice() <= key && key < to.as_slice(),
            Keys::From(from) => from.as_slice() <= key,
        }
    }

    /// Where they stand in the order of keys; `None`: there can be none.
    pub(crate) fn bounds(&self) -> Option<Bounds<'_>> {
        match self {
            Keys::One(one) => Some((Bound::Included(one), Bound::Included(one))),
            Keys::Span { from, to } if from < to => Some((Bound::Included(from), Bound::Excluded(to))),
            Keys::Span { .. } => None,
            Keys::From(from) => Some((Bound::Included(from), Bound::Unbounded)),
        }
    }
}

impl KeyReply {
    /// As the memory of answers keeps it: without keys and values.
    pub(crate) fn small(&self) -> KeyReply {
        match self {
            KeyReply::Put { previous: None, .. } => self.clone(),
            KeyReply::Deleted { previous, .. } if previous.is_empty() => self.clone(),
            KeyReply::Read(findings) if findings.found.is_empty() => self.clone(),
            KeyReply::Txn { succeeded, replies } => {
                KeyReply::Txn { succeeded: *succeeded, replies: replies.iter().map(KeyReply::small).collect() }
            }
            KeyReply::Put { .. } | KeyReply::Deleted { .. } | KeyReply::Read(_) | KeyReply::NotKept => {
                KeyReply::NotKept
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        assert_eq!(Keys::prefix(*b"ab"), Keys::Span { from: b"ab".to_vec(), to: b"ac".to_vec() });
        assert_eq!(Keys::prefix([1, 255, 255]), Keys::Span { from: vec![1, 255, 255], to: vec![2] });
        assert_eq!(Keys::prefix([255, 255]), Keys::From(vec![255, 255]));
        assert_eq!(Keys::prefix([]), Keys::From(vec![]));
        let keys = Keys::prefix([1, 255]);
        assert!(keys.has(&[1, 255]) && keys.has(&[1, 255, 0]) && !keys.has(&[2]) && !keys.has(&[1, 254, 9]));
    }

    #[test]
    fn an_empty_span_has_no_bounds() {
        assert_eq!(Keys::Span { from: vec![2], to: vec![2] }.bounds(), None);
        assert_eq!(Keys::Span { from: vec![3], to: vec![2] }.bounds(), None);
    }
}
