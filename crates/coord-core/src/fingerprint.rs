//! Tells a repeated request from another request under the same serial. It guards against a client's mistake, not against
//! malice: 64 bits of FNV-1a, the same on every replica and in every version of the program, because it is kept in snapshots.

use palisade_fence::Fence;

use crate::command::{Force, Op, Value};

/// The fingerprint of an operation, without the wall clock and the request id.
pub(crate) fn fingerprint(op: &Op) -> u64 {
    let mut hash = Fnv::new();
    match op {
        Op::Campaign { session, serial: _, election, candidate, value, priority } => {
            hash.number(1).number(session.get()).bytes(election.as_bytes()).bytes(candidate.as_bytes());
            hash.value(value).bytes(&priority.to_le_bytes());
        }
        Op::Proclaim { election, token, value } => {
            hash.number(2).bytes(election.as_bytes()).number(token.get()).value(value);
        }
        Op::Resign { election, token, by, force } => {
            hash.number(3).bytes(election.as_bytes()).number(token.get()).number(by.map_or(0, |id| id.get()));
            hash.number(match force {
                Force::No => 0,
                Force::Yes => 1,
            });
        }
        Op::Put { key, value, fence } => {
            hash.number(4).bytes(key).bytes(value).fence(fence.as_ref());
        }
        Op::Delete { key, fence } => {
            hash.number(5).bytes(key).fence(fence.as_ref());
        }
        Op::Found { .. } | Op::OpenSession { .. } | Op::Attach { .. } | Op::EndSession { .. } => {
            panic!("no answer of this operation is remembered: {op:?}")
        }
    }
    hash.0
}

/// FNV-1a over fields; each of variable length goes in behind its length, so that no two lists of fields run together.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Fnv {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    fn number(&mut self, number: u64) -> &mut Fnv {
        self.raw(&number.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Fnv {
        self.number(bytes.len() as u64).raw(bytes)
    }

    fn value(&mut self, value: &Value) -> &mut Fnv {
        self.bytes(value.address.as_bytes()).number(value.components.len() as u64);
        for (name, address) in &value.components {
            self.bytes(name.as_bytes()).bytes(address.as_bytes());
        }
        self.bytes(&value.data)
    }

    fn fence(&mut self, fence: Option<&Fence>) -> &mut Fnv {
        match fence {
            None => self.number(0),
            Some(fence) => self.number(1).bytes(fence.election.as_bytes()).number(fence.token.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_in_every_version() {
        let put = |key: &[u8], value: &[u8]| Op::Put { key: key.to_vec(), value: value.to_vec(), fence: None };
        assert_eq!(fingerprint(&put(b"k", b"v")), fingerprint(&put(b"k", b"v")));
        assert_ne!(fingerprint(&put(b"k", b"v")), fingerprint(&put(b"kv", b"")));
        assert_ne!(fingerprint(&put(b"k", b"")), fingerprint(&Op::Delete { key: b"k".to_vec(), fence: None }));
    }
}
