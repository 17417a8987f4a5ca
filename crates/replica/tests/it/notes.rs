//! The toy machine: a list of notes. A snapshot is the list.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use palisade_replica::{Cluster, Frozen, Level, Machine, MachineError};
use tokio::sync::watch;

pub(crate) struct Notes {
    list: watch::Sender<Vec<Bytes>>,
    restored: watch::Sender<usize>,
    level: AtomicU32,
    /// Held by a test: [`RAISE`] waits for it.
    pub(crate) slow: Mutex<()>,
    raising: watch::Sender<bool>,
}

/// Applying it panics.
pub(crate) const POISON: &[u8] = b"poison";

/// Applying it raises the level to 2.
pub(crate) const RAISE: &[u8] = b"raise";

impl Notes {
    pub(crate) fn new() -> Notes {
        Notes {
            list: watch::Sender::new(Vec::new()),
            restored: watch::Sender::new(0),
            level: AtomicU32::new(1),
            slow: Mutex::default(),
            raising: watch::Sender::new(false),
        }
    }

    /// Whether [`RAISE`] is being applied, or was.
    pub(crate) fn raising(&self) -> watch::Receiver<bool> {
        self.raising.subscribe()
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
        if entry == RAISE {
            self.raising.send_replace(true);
            // The node has one worker, and goes on meanwhile.
            tokio::task::block_in_place(|| drop(self.slow.lock().unwrap()));
            self.level.store(2, Ordering::Release);
        }
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

    fn level(&self) -> Level {
        Level { known: 2, at: self.level.load(Ordering::Acquire) }
    }

    fn cluster(&self) -> Cluster {
        Cluster { id: if self.list.borrow().is_empty() { 0 } else { 77 }, generation: 0 }
    }
}
