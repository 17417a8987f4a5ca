//! Whether the disk of this node has room, as its server sees it, and what replication does without until it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How much room there is on a node's disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum Room {
    /// Enough for everything.
    #[default]
    Enough = 0,
    /// Only for what Raft cannot do without: no snapshot is written, and no leadership of the store is taken over.
    Little = 1,
    /// Not even for entries of others: they are refused, as if this node were cut off from them, so that the log never runs
    /// into a disk without space, which would end it. Votes and heartbeats go on.
    None = 2,
}

/// What is known of it now.
#[derive(Clone, Default)]
pub(crate) struct RoomNow(Arc<AtomicU8>);

impl RoomNow {
    pub(crate) fn set(&self, room: Room) {
        self.0.store(room as u8, Ordering::Release);
    }

    pub(crate) fn get(&self) -> Room {
        match self.0.load(Ordering::Acquire) {
            0 => Room::Enough,
            1 => Room::Little,
            _ => Room::None,
        }
    }
}
