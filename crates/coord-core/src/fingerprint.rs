//! Tells a repeated request from another request under the same serial. It guards against a client's mistake, not against
//! malice: 64 bits of FNV-1a, the same on every replica and in every version of the program, because it is kept in snapshots.

use palisade_fence::Fence;

use crate::SessionId;
use crate::command::{EndReason, Guard, OnDisconnect, Op, Value};

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
        Op::Resign { election, token, by, guard } => {
            hash.number(3).bytes(election.as_bytes()).number(token.get()).asker(*by, *guard);
        }
        Op::Put { key, value, fence } => {
            hash.number(4).bytes(key).bytes(value).fence(fence.as_ref());
        }
        Op::Delete { key, fence } => {
            hash.number(5).bytes(key).fence(fence.as_ref());
        }
        Op::OpenSession { id, ttl_ms, on_disconnect } => {
            hash.number(6).session(*id).number(*ttl_ms);
            match on_disconnect {
                OnDisconnect::KeepUntilTtl => hash.number(0),
                OnDisconnect::ReleaseAfter { ms } => hash.number(1).number(*ms),
            };
        }
        Op::EndSession { session, why, only_if } => {
            hash.number(7).number(session.get()).reason(*why).number(only_if.map_or(0, |attach| attach.get()));
        }
        Op::CloseSession { session, guard } => {
            hash.number(8).asker(Some(*session), *guard);
        }
        Op::Remove { election, candidate, by, guard } => {
            hash.number(9).bytes(election.as_bytes()).bytes(candidate.as_bytes()).asker(*by, *guard);
        }
        Op::Transfer { election, token, to, by, guard } => {
            hash.number(10).bytes(election.as_bytes()).number(token.map_or(0, |token| token.get()));
            hash.bytes(to.as_bytes()).asker(*by, *guard);
        }
        Op::Found { .. } | Op::Attach { .. } | Op::Withdraw { .. } => {
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

    /// Zero names none.
    fn session(&mut self, id: Option<SessionId>) -> &mut Fnv {
        self.number(id.map_or(0, SessionId::get))
    }

    fn asker(&mut self, by: Option<SessionId>, guard: Guard) -> &mut Fnv {
        self.session(by).number(match guard {
            Guard::Refuse => 0,
            Guard::Break => 1,
            Guard::Ask => 2,
            Guard::AskAndStopRenewing => 3,
        })
    }

    fn reason(&mut self, why: EndReason) -> &mut Fnv {
        self.bytes(why.as_str().as_bytes())
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
