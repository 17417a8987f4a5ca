//! What the store's own formats have in common: a version byte in front, and what can be wrong with what follows.
//! Checksums are storage's.

use bytes::Bytes;
use prost::Message;

/// The bytes cannot be read: damaged, or written by a newer version. A node that meets one in its log or its snapshot
/// stops, because going on would let replicas diverge.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// There is not even a version byte.
    #[error("the record is empty")]
    Empty,
    /// Another format than this program writes.
    #[error("the record has format version {found}, this program reads {readable}")]
    Version {
        /// The version byte.
        found: u8,
        /// What can be read.
        readable: u8,
    },
    /// Not a message.
    #[error("the record is not a message: {0}")]
    Message(#[from] prost::DecodeError),
    /// A field that a record must have, with a value that it can have.
    #[error("{field}: {value}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it was.
        value: String,
    },
    /// The parts do not fit together.
    #[error(transparent)]
    Broken(#[from] palisade_coord_core::invariants::Broken),
}

impl WireError {
    pub(crate) fn field(field: &'static str, value: impl ToString) -> WireError {
        WireError::Field { field, value: value.to_string() }
    }

    pub(crate) fn missing(field: &'static str) -> WireError {
        WireError::field(field, "is missing")
    }
}

/// The version byte, then the message.
pub(crate) fn encode(version: u8, message: &impl Message) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(version);
    message.encode(&mut bytes).expect("a vector has room");
    Bytes::from(bytes)
}

/// The message behind the one version byte that can be read.
pub(crate) fn decode<M: Message + Default>(readable: u8, bytes: &[u8]) -> Result<M, WireError> {
    let (&found, rest) = bytes.split_first().ok_or(WireError::Empty)?;
    if found != readable {
        return Err(WireError::Version { found, readable });
    }
    Ok(M::decode(rest)?)
}
