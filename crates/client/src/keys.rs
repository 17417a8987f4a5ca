//! Which keys are meant, and what a key has: shared by reads, writes and watches.

use palisade_wire::coord::v1::{self, key_range};

/// Which keys. Keys are bytes, in the order of bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Keys {
    /// This one.
    One(Vec<u8>),
    /// All that begin with this; with nothing: all.
    Prefix(Vec<u8>),
    /// This one and all after it.
    From(Vec<u8>),
    /// From the first on and before the second.
    Span {
        /// The first that can be meant.
        from: Vec<u8>,
        /// The first that is not.
        to: Vec<u8>,
    },
}

impl Keys {
    /// All keys that begin with this.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Keys {
        Keys::Prefix(prefix.into())
    }

    /// All keys.
    pub fn all() -> Keys {
        Keys::Prefix(Vec::new())
    }

    pub(crate) fn to_wire(&self) -> v1::KeyRange {
        let range = |key: &[u8], until| v1::KeyRange { key: key.to_vec(), until };
        match self {
            Keys::One(key) => range(key, None),
            Keys::Prefix(prefix) => range(prefix, Some(key_range::Until::Prefix(key_range::Prefix {}))),
            Keys::From(key) => range(key, Some(key_range::Until::Rest(key_range::Rest {}))),
            Keys::Span { from, to } => range(from, Some(key_range::Until::To(to.clone()))),
        }
    }
}

impl From<Vec<u8>> for Keys {
    fn from(key: Vec<u8>) -> Keys {
        Keys::One(key)
    }
}

impl From<&str> for Keys {
    fn from(key: &str) -> Keys {
        Keys::One(key.as_bytes().to_vec())
    }
}

/// A key with its value and its history in numbers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// Its value; empty where none was asked for.
    pub value: Vec<u8>,
    /// Of the write that brought it into being.
    pub create_revision: u64,
    /// Of the last write.
    pub mod_revision: u64,
    /// 1 for the first write after it came into being.
    pub version: u64,
    /// The session that it ends with.
    pub session: Option<u64>,
}

impl KeyValue {
    pub(crate) fn of(kv: v1::KeyValue) -> KeyValue {
        KeyValue {
            key: kv.key,
            value: kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            session: (kv.session != 0).then_some(kv.session),
        }
    }
}
