//! The toy machine: a list of notes. A snapshot is the list.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use palisade_replica::{Cluster, Frozen, Machine, MachineError};
use tokio::sync::watch;

pub(crate) struct Notes {
    list: watch::Sender<Vec<Bytes>>,
    restored: watch::Sender<usize>,
}

/// Applying it panics.
pub(crate) const POISON: &[u8] = b"poison";

impl Notes {
    pub(crate) fn new() -> Notes {
        Notes { list: watch::Sender::new(Vec::new()), restored: watch::Sender::new(0) }
    }

    pub(crate) fn list(&self) -> watch::Receiver<Vec<Bytes>> {
        self.list.subscribe()
    }

    /// How often a snapshot replaced the list.
    pub(crate) fn restored(&self) -> usize {
        *self.restored.borrow()
    }
}

/// The list at one moment.
pub(crate) struct Written(Vec<Bytes>);

impl Frozen for Written {
    fn write(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        for note in &self.0 {
            bytes.clear();
            bytes.put_u32(note.len() as u32);
            bytes.extend_from_slice(note);
            take(&bytes)?;
        }
        Ok(())
    }
}

impl Machine for Notes {
    /// How many notes there are with this one.
    type Reply = usize;

    fn apply(&self, _: u64, entry: Bytes) -> usize {
        assert!(entry != POISON, "poison was applied");
        self.list.send_modify(|list| list.push(entry));
        self.list.borrow().len()
    }

    type Frozen = Written;

    fn freeze(&self) -> Written {
        Written(self.list.borrow().clone())
    }

    fn restore(&self, pieces: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), MachineError> {
        let pieces: Vec<Bytes> =
            pieces.collect::<io::Result<_>>().map_err(|error| MachineError::new(error.to_string()))?;
        let mut data = Bytes::from(pieces.concat());
        let mut list = Vec::new();
        while data.has_remaining() {
            let length = data.get_u32() as usize;
            if data.len() < length {
                return Err(MachineError::new("a note is cut short"));
            }
            list.push(data.split_to(length));
        }
        self.list.send_replace(list);
        self.restored.send_modify(|count| *count += 1);
        Ok(())
    }

    fn cluster(&self) -> Cluster {
        Cluster { id: if self.list.borrow().is_empty() { 0 } else { 77 }, generation: 0 }
    }
}
