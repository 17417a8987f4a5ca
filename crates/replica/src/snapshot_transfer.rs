//! A snapshot on its way from one node to another: read piece by piece from one disk, written piece by piece to the other. What
//! has arrived when a connection breaks is kept, so that the next attempt, of this store leader or of another that has the same
//! snapshot, goes on from there.
//!
//! Keeps true: neither side has more than a few pieces in memory; each piece is checked as it comes and the whole before it is
//! installed, for a snapshot replaces everything a node knows. The connection has its own checksums; the disks between have not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use palisade_planted::{self as planted, Bug};
use palisade_storage::{SNAPSHOT_PIECE_BYTES, Snapshot as Saved, SnapshotDraft};
use palisade_wire::replica::v1::{SnapshotChunk, SnapshotHead};
use tonic::Status;

use crate::codec;
use crate::log_store::io_error;
use crate::snapshots::Snapshots;
use crate::types::{LogId, SnapshotMeta};

/// The largest snapshot that is accepted. A state is held in memory; 100,000 sessions take a tenth of this.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;

/// What the sender sees of a transfer.
#[derive(Clone, Default)]
pub(crate) struct Sent(Arc<Progress>);

#[derive(Default)]
struct Progress {
    pieces: AtomicU64,
    /// Why a piece could not be read.
    unreadable: Mutex<Option<String>>,
}

impl Sent {
    /// How many pieces the connection has taken.
    pub(crate) fn pieces(&self) -> u64 {
        self.0.pieces.load(Ordering::Acquire)
    }

    /// Why the transfer had to end here, if it had.
    pub(crate) fn unreadable(&self) -> Option<String> {
        self.0.unreadable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The pieces of a snapshot from a byte on, the head with the first. Each is read when the connection takes it. There is one at
/// least, which may be empty; the last one is missing if a piece cannot be read.
pub(crate) fn chunks(
    head: SnapshotHead,
    saved: Saved,
    snapshots: Snapshots,
    sent: Sent,
) -> impl Stream<Item = SnapshotChunk> + Send + 'static {
    unfold((Some(head.clone()), head.from), move |(head, at)| {
        let (saved, snapshots, sent) = (saved.clone(), snapshots.clone(), sent.clone());
        async move {
            if head.is_none() && at >= saved.bytes() {
                return None;
            }
            let read = snapshots.blocking("reading a snapshot", move || saved.piece(at).map_err(io_error)).await;
            let data = match read {
                Ok(data) => data,
                Err(error) => {
                    tracing::error!(%error, "a snapshot cannot be sent");
                    *sent.0.unreadable.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                    return None;
                }
            };
            sent.0.pieces.fetch_add(1, Ordering::AcqRel);
            let next = at + data.len() as u64;
            Some((SnapshotChunk { head, crc32: crc32fast::hash(&data), data }, (None, next)))
        }
    })
}

/// Which snapshot it is. The same state is the same bytes on every node, so this names the content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    last: Option<LogId>,
    bytes: u64,
    crc32: u32,
}

impl Identity {
    fn of(head: &SnapshotHead, meta: &SnapshotMeta) -> Identity {
        Identity { last: meta.last_log_id, bytes: head.bytes, crc32: head.crc32 }
    }
}

/// The one snapshot that arrives, or has begun to.
#[derive(Clone, Default)]
pub(crate) struct Arriving(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    /// Counts transfers: a later one takes over what an earlier one, whose connection may hang, has brought.
    transfer: u64,
    begun: Option<(Identity, Box<dyn SnapshotDraft>)>,
}

impl Arriving {
    /// How much of a snapshot is there.
    pub(crate) fn have(&self, head: &SnapshotHead) -> Result<u64, Status> {
        let meta = meta_of(head)?;
        let identity = Identity::of(head, &meta);
        let slot = self.lock();
        let begun = slot.begun.as_ref().filter(|(begun, _)| *begun == identity);
        Ok(begun.map_or(0, |(_, draft)| draft.written().0))
    }

    /// Begins a transfer, or goes on with one.
    pub(crate) async fn begin(&self, head: &SnapshotHead, snapshots: &Snapshots) -> Result<Incoming, Status> {
        if head.bytes > MAX_SNAPSHOT_BYTES {
            let why = format!("a snapshot of {} bytes, the limit is {MAX_SNAPSHOT_BYTES}", head.bytes);
            return Err(Status::invalid_argument(why));
        }
        let meta = meta_of(head)?;
        let identity = Identity::of(head, &meta);
        let (transfer, begun) = {
            let mut slot = self.lock();
            slot.transfer += 1;
            (slot.transfer, slot.begun.take())
        };
        let same = begun.filter(|(begun, draft)| *begun == identity && draft.written().0 == head.from);
        let draft = match same {
            Some((_, draft)) => draft,
            None if head.from > 0 => {
                return Err(Status::failed_precondition(format!("the {} bytes before are not here", head.from)));
            }
            None => snapshots.begin(&meta).await.map_err(|error| refused(&error))?,
        };
        let incoming = Incoming { arriving: self.clone(), transfer, identity, meta, snapshots: snapshots.clone() };
        incoming.put(draft)?;
        Ok(incoming)
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn meta_of(head: &SnapshotHead) -> Result<SnapshotMeta, Status> {
    let meta = head.meta.clone().ok_or_else(|| Status::invalid_argument("a snapshot without its last entry"))?;
    Ok(codec::snapshot_meta_from(meta)?)
}

/// What the disk of the receiver says.
fn refused(error: &std::io::Error) -> Status {
    Status::unavailable(format!("the snapshot cannot be kept here: {error}"))
}

/// One transfer. Dropping it leaves what has arrived for the next.
pub(crate) struct Incoming {
    arriving: Arriving,
    transfer: u64,
    identity: Identity,
    /// Of the snapshot.
    pub(crate) meta: SnapshotMeta,
    snapshots: Snapshots,
}

impl Incoming {
    /// Takes the next piece.
    pub(crate) async fn add(&self, chunk: SnapshotChunk) -> Result<(), Status> {
        let mut draft = self.take()?;
        let at = draft.written().0;
        let damaged = crc32fast::hash(&chunk.data) != chunk.crc32 && !planted::is(Bug::SnapshotChunkUnchecked);
        if damaged {
            self.put(draft)?;
            return Err(Status::data_loss(format!("the piece at byte {at} is damaged")));
        }
        let data: Bytes = chunk.data;
        let whole = at + data.len() as u64 == self.identity.bytes;
        if at + data.len() as u64 > self.identity.bytes || (data.len() != SNAPSHOT_PIECE_BYTES && !whole) {
            self.put(draft)?;
            let (piece, bytes) = (data.len(), self.identity.bytes);
            return Err(Status::invalid_argument(format!(
                "{piece} bytes at {at} are no piece of a snapshot of {bytes}"
            )));
        }
        let write = move || draft.write(&data).map_err(io_error).map(|()| draft);
        // What cannot be written is discarded: it may be half a piece.
        let draft = self.snapshots.blocking("keeping a snapshot", write).await.map_err(|error| refused(&error))?;
        self.put(draft)
    }

    /// The whole snapshot, if it has arrived.
    pub(crate) fn finish(&self) -> Result<Box<dyn SnapshotDraft>, Status> {
        let draft = self.take()?;
        let (bytes, crc32) = draft.written();
        if bytes < self.identity.bytes {
            self.put(draft)?;
            let why = format!("the snapshot ended after {bytes} of {} bytes", self.identity.bytes);
            return Err(Status::data_loss(why));
        }
        if crc32 != self.identity.crc32 && !planted::is(Bug::SnapshotChunkUnchecked) {
            // It begins anew: which piece is wrong cannot be told.
            return Err(Status::data_loss("the pieces of the snapshot are not of one whole"));
        }
        Ok(draft)
    }

    fn take(&self) -> Result<Box<dyn SnapshotDraft>, Status> {
        let mut slot = self.arriving.lock();
        if slot.transfer != self.transfer {
            return Err(Status::aborted("a later transfer of a snapshot has begun"));
        }
        let begun = slot.begun.take().map(|(_, draft)| draft);
        begun.ok_or_else(|| Status::aborted("what had arrived of the snapshot could not be kept"))
    }

    fn put(&self, draft: Box<dyn SnapshotDraft>) -> Result<(), Status> {
        let mut slot = self.arriving.lock();
        if slot.transfer != self.transfer {
            return Err(Status::aborted("a later transfer of a snapshot has begun"));
        }
        slot.begun = Some((self.identity, draft));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
