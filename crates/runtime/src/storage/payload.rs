//! A reference to a payload: what a pointer in the store holds.

use serde::{Deserialize, Serialize};

/// Names a payload and says how to know that it is whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Payload {
    /// Path below the storage folder, with `/`. It contains the token of the leadership that wrote it.
    pub path: String,
    /// Bytes.
    pub length: u64,
    /// CRC-32 of the bytes.
    pub crc32: u32,
}
