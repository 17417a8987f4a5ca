//! A fingerprint of all bytes that all processes wrote to their sockets, in order and with their times: two runs are compared
//! by all that they said, not by what we looked at.

use std::sync::{Arc, Mutex, PoisonError};

/// The sums of one run. Clones are the same sums.
#[derive(Clone, Debug, Default)]
pub struct Traffic(Arc<Mutex<Sums>>);

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    dials: u64,
    writes: u64,
    bytes: u64,
    hash: u64,
    ending: bool,
}

impl Traffic {
    pub(super) fn dialled(&self) {
        self.sums(|sums| sums.dials += 1);
    }

    pub(super) fn wrote(&self, bytes: &[u8]) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_nanos() as u64;
        self.sums(|sums| {
            sums.writes += 1;
            sums.bytes += bytes.len() as u64;
            // Eight bytes at a time (FNV-1a over words): every byte of a run passes here.
            let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
            let (words, rest) = bytes.as_chunks::<8>();
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            let all = words.iter().map(|word| u64::from_le_bytes(*word)).chain([u64::from_le_bytes(last)]);
            sums.hash = [at, bytes.len() as u64].into_iter().chain(all).fold(sums.hash, mix);
        });
    }

    /// Runs what ends a process: its sockets are closed in the order in which they were opened.
    pub(crate) fn while_ending<T>(&self, end: impl FnOnce() -> T) -> T {
        self.sums(|sums| sums.ending = true);
        let ended = end();
        self.sums(|sums| sums.ending = false);
        ended
    }

    pub(super) fn is_ending(&self) -> bool {
        self.sums(|sums| sums.ending)
    }

    fn sums<T>(&self, act: impl FnOnce(&mut Sums) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sums { dials, writes, bytes, hash, .. } = self.sums(|sums| *sums);
        write!(f, "{dials} dials, {writes} writes, {bytes} bytes, fingerprint {hash:016x}")
    }
}
