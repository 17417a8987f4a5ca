//! Tells a repeated request from another request under the same serial. It guards against a client's mistake, not against
//! malice: 64 bits of FNV-1a, the same on every replica and in every version of the program, because it is kept in snapshots.

use palisade_fence::Fence;

use crate::command::{EndReason, Guard, OnDisconnect, Op, Value};
use crate::keys::op::{Binding, Compare, Delete, KeyOp, Keys, Operand, Put, Read, Txn};
use crate::{Revision, SessionId};

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
        Op::Keys(op) => {
            hash.key_op(op);
        }
        Op::Compact { revision } => {
            hash.number(11).number(revision.get());
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
        Op::Found { .. } | Op::Attach { .. } | Op::Withdraw { .. } | Op::RaiseLevel { .. } => {
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

    fn key_op(&mut self, op: &KeyOp) -> &mut Fnv {
        match op {
            KeyOp::Put(Put { key, value, session, shows_previous, fence }) => {
                self.number(4)
                    .bytes(key)
                    .number(u64::from(value.is_some()))
                    .bytes(value.as_deref().unwrap_or_default());
                match session {
                    Binding::None => self.number(0),
                    Binding::To(id) => self.number(1).number(id.get()),
                    Binding::Keep => self.number(2),
                };
                self.number(u64::from(*shows_previous)).fence(fence.as_ref())
            }
            KeyOp::Delete(Delete { keys, shows_previous, fence }) => {
                self.number(5).keys(keys).number(u64::from(*shows_previous)).fence(fence.as_ref())
            }
            KeyOp::Read(Read { keys, revision, limit, order, shows, written, created }) => {
                self.number(12).keys(keys).number(u64::from(revision.is_some()));
                self.number(revision.map_or(0, Revision::get)).number(*limit);
                self.number(order.by as u64).number(u64::from(order.descending)).number(*shows as u64);
                for within in [written, created] {
                    self.number(within.first.get()).number(within.last.get());
                }
                self
            }
            KeyOp::Txn(Txn { fence, compare, success, failure }) => {
                self.number(13).fence(fence.as_ref()).number(compare.len() as u64);
                for Compare { keys, relation, operand } in compare {
                    self.keys(keys).number(*relation as u64);
                    match operand {
                        Operand::Version(version) => self.number(0).number(*version),
                        Operand::Created(revision) => self.number(1).number(revision.get()),
                        Operand::Written(revision) => self.number(2).number(revision.get()),
                        Operand::Value(value) => self.number(3).bytes(value),
                        Operand::Session(session) => self.number(4).session(*session),
                    };
                }
                for ops in [success, failure] {
                    self.number(ops.len() as u64);
                    for op in ops {
                        self.key_op(op);
                    }
                }
                self
            }
        }
    }

    fn keys(&mut self, keys: &Keys) -> &mut Fnv {
        match keys {
            Keys::One(key) => self.number(0).bytes(key),
            Keys::Span { from, to } => self.number(1).bytes(from).bytes(to),
            Keys::From(from) => self.number(2).bytes(from),
        }
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
        let put = |key: &[u8], value: &[u8]| Op::Keys(KeyOp::Put(Put::new(key, value)));
        let delete = |key: &[u8]| Op::Keys(KeyOp::Delete(Delete::new(Keys::One(key.to_vec()))));
        assert_eq!(fingerprint(&put(b"k", b"v")), fingerprint(&put(b"k", b"v")));
        assert_ne!(fingerprint(&put(b"k", b"v")), fingerprint(&put(b"kv", b"")));
        assert_ne!(fingerprint(&put(b"k", b"")), fingerprint(&delete(b"k")));
    }
}
