//! Keys: one request each. A write may carry a fence, and a session that remembers its answer.

use palisade_fence::Fence;

use crate::{Client, Error, Header, Session};

/// A write of a key.
#[derive(Clone, Debug)]
pub struct PutOptions<'a> {
    /// 1 byte to 4 KiB.
    pub key: Vec<u8>,
    /// At most 1 MiB.
    pub value: Vec<u8>,
    /// Applied only if this is the election's current token.
    pub fence: Option<Fence>,
    /// The session that remembers the answer, so that an unknown outcome is repeated and takes effect once. Without it an
    /// unknown outcome stays unknown: it is never sent again.
    pub session: Option<&'a Session>,
}

/// A removal of a key.
#[derive(Clone, Debug)]
pub struct DeleteOptions<'a> {
    /// The key.
    pub key: Vec<u8>,
    /// Applied only if this is the election's current token.
    pub fence: Option<Fence>,
    /// As for [`PutOptions`].
    pub session: Option<&'a Session>,
}

/// A key was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// Of the command.
    pub header: Header,
    /// Of the key after this write; 1: the key was new.
    pub version: u64,
}

/// A key was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Got {
    /// Of the state that was read.
    pub header: Header,
    /// `None`: there is no such key.
    pub kv: Option<KeyValue>,
}

/// A key was deleted, or was not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deleted {
    /// Of the command.
    pub header: Header,
    /// 0 or 1.
    pub deleted: u64,
}

/// A key with its value and its history in numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Of the write that brought it into being.
    pub create_revision: u64,
    /// Of the last write.
    pub mod_revision: u64,
    /// 1 for the first write after it came into being.
    pub version: u64,
}

impl Client {
    /// Writes a key.
    pub async fn put(&self, options: PutOptions<'_>) -> Result<Put, Error> {
        let _ = options;
        panic!("not yet")
    }

    /// Reads a key. Linearizable.
    pub async fn get(&self, key: Vec<u8>) -> Result<Got, Error> {
        let _ = key;
        panic!("not yet")
    }

    /// Deletes a key; deleting nothing is no error.
    pub async fn delete(&self, options: DeleteOptions<'_>) -> Result<Deleted, Error> {
        let _ = options;
        panic!("not yet")
    }
}
