//! What can be done to a log: the vocabulary of [`crate::LogEngine::submit`].

use bytes::Bytes;

/// The largest record that is accepted: eight whole requests of 1.5 MiB, above the largest batch in one entry, and far
/// below what one group holds in memory.
pub const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// The largest value of a metadata slot or of a purge marker, so that each is one item: votes and log ids take under 100 bytes.
pub const MAX_META_BYTES: usize = 16 * 1024;

/// One operation on the log or its metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogOp {
    /// Adds the entry after the last one. On an empty log any index from [`crate::LogState::first`] on is accepted.
    Append {
        /// Its index: last + 1.
        index: u64,
        /// Opaque; at most [`MAX_RECORD_BYTES`].
        bytes: Bytes,
    },
    /// Drops every entry above `index` and keeps `index` itself. `None` drops all.
    TruncateAfter {
        /// The last index that stays.
        index: Option<u64>,
    },
    /// Drops every entry up to and including `up_to`, which may lie beyond the last one (a snapshot was installed).
    /// Ignored if that much was purged before.
    ///
    /// Submit it only when the snapshot that covers `up_to` is durable.
    Purge {
        /// The last index that goes.
        up_to: u64,
        /// Opaque, given back in [`crate::LogState::purged`]; at most [`MAX_META_BYTES`].
        marker: Bytes,
    },
    /// Replaces a slot.
    Put {
        /// Which one.
        slot: MetaSlot,
        /// Opaque; at most [`MAX_META_BYTES`].
        bytes: Bytes,
    },
}

/// A slot of metadata beside the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MetaSlot {
    /// The Raft vote. Ordered with entries: never on disk later than an entry that was submitted after it.
    Vote,
    /// How far the log is known to be committed. Never on disk before the entries that were submitted before it.
    Committed,
    /// Who this node is, in the words of the caller.
    Identity,
}
