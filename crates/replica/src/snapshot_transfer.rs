//! A snapshot in pieces: cut on one side, put together and checked on the other. The connection has its own checksums, but
//! a snapshot replaces everything a node knows, so each piece is checked again.

use bytes::{Bytes, BytesMut};
use palisade_wire::replica::v1::{SnapshotChunk, SnapshotHead};
use tonic::Status;

/// Bytes of one piece: large enough that the frame costs nothing, small enough that ten of them are no memory.
const CHUNK_BYTES: usize = 512 << 10;

/// The largest snapshot that is accepted. A state is held in memory; 100,000 sessions take a tenth of this.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;

/// The pieces of a snapshot, the head with the first. An empty snapshot has one piece.
pub(crate) fn chunks(head: SnapshotHead, data: Bytes) -> impl Iterator<Item = SnapshotChunk> + Send + 'static {
    let pieces = data.len().div_ceil(CHUNK_BYTES).max(1);
    let mut head = Some(head);
    (0..pieces).map(move |piece| {
        let data = data.slice(piece * CHUNK_BYTES..data.len().min((piece + 1) * CHUNK_BYTES));
        SnapshotChunk { head: head.take(), crc32: crc32fast::hash(&data), data }
    })
}

/// A snapshot that arrives.
pub(crate) struct Incoming {
    expected: u64,
    data: BytesMut,
}

impl Incoming {
    /// Expects what the head announces.
    pub(crate) fn new(head: &SnapshotHead) -> Result<Incoming, Status> {
        if head.bytes > MAX_SNAPSHOT_BYTES {
            let why = format!("a snapshot of {} bytes, the limit is {MAX_SNAPSHOT_BYTES}", head.bytes);
            return Err(Status::invalid_argument(why));
        }
        // Grows as pieces arrive: the head alone must not make us take the memory.
        Ok(Incoming { expected: head.bytes, data: BytesMut::new() })
    }

    /// Takes the next piece.
    pub(crate) fn add(&mut self, chunk: &SnapshotChunk) -> Result<(), Status> {
        if crc32fast::hash(&chunk.data) != chunk.crc32 {
            return Err(Status::data_loss(format!("the piece at byte {} is damaged", self.data.len())));
        }
        if self.data.len() as u64 + chunk.data.len() as u64 > self.expected {
            return Err(Status::invalid_argument(format!("more than the {} bytes of the snapshot", self.expected)));
        }
        self.data.extend_from_slice(&chunk.data);
        Ok(())
    }

    /// The whole snapshot, if it has arrived.
    pub(crate) fn finish(self) -> Result<Bytes, Status> {
        if (self.data.len() as u64) < self.expected {
            let why = format!("the snapshot ended after {} of {} bytes", self.data.len(), self.expected);
            return Err(Status::data_loss(why));
        }
        Ok(self.data.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(bytes: usize) -> SnapshotHead {
        SnapshotHead { bytes: bytes as u64, ..SnapshotHead::default() }
    }

    fn transfer(data: &Bytes) -> Result<Bytes, Status> {
        let mut incoming = Incoming::new(&head(data.len()))?;
        for (number, chunk) in chunks(head(data.len()), data.clone()).enumerate() {
            assert_eq!(chunk.head.is_some(), number == 0);
            incoming.add(&chunk)?;
        }
        incoming.finish()
    }

    #[test]
    fn pieces_make_the_whole() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7] {
            let data: Bytes = (0..length).map(|at| (at * 31 % 251) as u8).collect();
            assert_eq!(transfer(&data).unwrap(), data);
        }
    }

    #[test]
    fn damage_loss_and_excess_are_refused() {
        let data = Bytes::from(vec![7; 2 * CHUNK_BYTES]);
        let mut pieces: Vec<SnapshotChunk> = chunks(head(data.len()), data.clone()).collect();

        let mut short = Incoming::new(&head(data.len())).unwrap();
        short.add(&pieces[0]).unwrap();
        assert!(short.finish().is_err());

        let mut long = Incoming::new(&head(CHUNK_BYTES)).unwrap();
        long.add(&pieces[0]).unwrap();
        assert!(long.add(&pieces[1]).is_err());

        pieces[0].crc32 ^= 1;
        assert!(Incoming::new(&head(data.len())).unwrap().add(&pieces[0]).is_err());
        assert!(Incoming::new(&SnapshotHead { bytes: MAX_SNAPSHOT_BYTES + 1, ..SnapshotHead::default() }).is_err());
    }
}
