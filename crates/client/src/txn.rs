//! Transactions: conditions on keys, and what is done if all hold, or if not. Whole or not at all, under one revision.

use palisade_fence::Fence;
use palisade_wire::coord::v1::{self, key_compare, key_op, key_op_result, put_op};

use crate::elections::repeat;
use crate::kv::{client, fence_to_wire, identified};
use crate::serials::Serial;
use crate::{Binding, Client, Error, ErrorKind, Found, Header, KeyValue, Keys, RangeOptions, Session};

/// A transaction. At most 128 conditions and 128 operations in all, eight transactions deep; none of its ways writes a key
/// twice.
///
/// ```
/// use palisade_client::{Compare, KeyOp, RangeOptions, Relation, Txn};
///
/// // Takes the key if nobody has it; else says who does.
/// let take = Txn::new()
///     .when(Compare::version("lock", Relation::Equal, 0))
///     .then(KeyOp::put("lock", "me"))
///     .otherwise(KeyOp::read(RangeOptions::new("lock")));
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Txn {
    txn: v1::Txn,
}

impl Txn {
    /// Without conditions, so that what comes [`Txn::then`] is done.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Adds a condition. All are judged by what is there before the first write.
    #[must_use]
    pub fn when(mut self, condition: Compare) -> Txn {
        self.txn.compare.push(condition.compare);
        self
    }

    /// Adds what is done if all conditions hold.
    #[must_use]
    pub fn then(mut self, op: KeyOp) -> Txn {
        self.txn.success.push(op.op);
        self
    }

    /// Adds what is done if one does not.
    #[must_use]
    pub fn otherwise(mut self, op: KeyOp) -> Txn {
        self.txn.failure.push(op.op);
        self
    }

    /// Does anything only if this is the election's current token.
    #[must_use]
    pub fn fenced(mut self, fence: &Fence) -> Txn {
        self.txn.fence = Some(fence_to_wire(fence));
        self
    }
}

/// A condition that each of the keys must meet. A key that is not there has zeros for numbers and no session, and meets no
/// condition on its value.
#[derive(Clone, PartialEq, Debug)]
pub struct Compare {
    compare: v1::KeyCompare,
}

/// How what the key has must stand to what it is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Relation {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// Above it.
    Greater,
    /// Below it.
    Less,
}

impl Compare {
    /// Its value.
    pub fn value(keys: impl Into<Keys>, relation: Relation, value: impl Into<Vec<u8>>) -> Compare {
        Compare::new(keys.into(), relation, key_compare::Operand::Value(value.into()))
    }

    /// How often it was written since it came into being; 0: it is not there.
    pub fn version(keys: impl Into<Keys>, relation: Relation, version: u64) -> Compare {
        Compare::new(keys.into(), relation, key_compare::Operand::Version(version))
    }

    /// When it came into being.
    pub fn create_revision(keys: impl Into<Keys>, relation: Relation, revision: u64) -> Compare {
        Compare::new(keys.into(), relation, key_compare::Operand::CreateRevision(revision))
    }

    /// When it was written last.
    pub fn mod_revision(keys: impl Into<Keys>, relation: Relation, revision: u64) -> Compare {
        Compare::new(keys.into(), relation, key_compare::Operand::ModRevision(revision))
    }

    /// The session that it ends with; `None`: with none.
    pub fn session(keys: impl Into<Keys>, relation: Relation, session: Option<u64>) -> Compare {
        Compare::new(keys.into(), relation, key_compare::Operand::Session(session.unwrap_or(0)))
    }

    fn new(keys: Keys, relation: Relation, operand: key_compare::Operand) -> Compare {
        let relation = match relation {
            Relation::Equal => key_compare::Relation::Equal,
            Relation::NotEqual => key_compare::Relation::NotEqual,
            Relation::Greater => key_compare::Relation::Greater,
            Relation::Less => key_compare::Relation::Less,
        };
        let (keys, operand) = (Some(keys.to_wire()), Some(operand));
        Compare { compare: v1::KeyCompare { keys, relation: relation.into(), operand } }
    }
}

/// An operation of a transaction.
#[derive(Clone, PartialEq, Debug)]
pub struct KeyOp {
    op: v1::KeyOp,
}

/// A write in a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PutOp {
    /// 1 byte to 4 KiB.
    pub key: Vec<u8>,
    /// At most 1 MiB; `None`: the one that it has, and the key must be there.
    pub value: Option<Vec<u8>>,
    /// The session that the key ends with.
    pub binding: Binding,
    /// Whether the answer has what was there before.
    pub show_previous: bool,
    /// A stale one refuses the whole transaction.
    pub fence: Option<Fence>,
}

impl PutOp {
    /// A plain write.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> PutOp {
        let (key, value) = (key.into(), Some(value.into()));
        PutOp { key, value, binding: Binding::None, show_previous: false, fence: None }
    }
}

/// A removal in a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteOp {
    /// Which: at most 100,000 in all.
    pub keys: Keys,
    /// Whether the answer has what was there before.
    pub show_previous: bool,
    /// A stale one refuses the whole transaction.
    pub fence: Option<Fence>,
}

impl DeleteOp {
    /// A plain removal.
    pub fn new(keys: impl Into<Keys>) -> DeleteOp {
        DeleteOp { keys: keys.into(), show_previous: false, fence: None }
    }
}

impl From<PutOp> for KeyOp {
    fn from(put: PutOp) -> KeyOp {
        KeyOp::of(key_op::Op::Put(v1::PutOp {
            key: put.key,
            value: put.value,
            binding: match put.binding {
                Binding::None => None,
                Binding::To(session) => Some(put_op::Binding::Session(session)),
                Binding::Keep => Some(put_op::Binding::KeepSession(put_op::Keep {})),
            },
            show_previous: put.show_previous,
            fence: put.fence.as_ref().map(fence_to_wire),
        }))
    }
}

impl From<DeleteOp> for KeyOp {
    fn from(delete: DeleteOp) -> KeyOp {
        KeyOp::of(key_op::Op::Delete(v1::DeleteOp {
            keys: Some(delete.keys.to_wire()),
            show_previous: delete.show_previous,
            fence: delete.fence.as_ref().map(fence_to_wire),
        }))
    }
}

impl KeyOp {
    /// A plain write.
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> KeyOp {
        PutOp::new(key, value).into()
    }

    /// A plain removal.
    pub fn delete(keys: impl Into<Keys>) -> KeyOp {
        DeleteOp::new(keys).into()
    }

    /// A read. It sees what came before it in the transaction.
    pub fn read(options: RangeOptions) -> KeyOp {
        KeyOp::of(key_op::Op::Read(options.read))
    }

    /// A transaction within.
    pub fn txn(txn: Txn) -> KeyOp {
        KeyOp::of(key_op::Op::Txn(txn.txn))
    }

    fn of(op: key_op::Op) -> KeyOp {
        KeyOp { op: v1::KeyOp { op: Some(op) } }
    }
}

/// A transaction was done, one way or the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxnDone {
    /// Of the command.
    pub header: Header,
    /// Whether all conditions held.
    pub succeeded: bool,
    /// One for each operation that was done, in order.
    pub results: Vec<KeyOpResult>,
}

/// What came of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum KeyOpResult {
    /// A key was written.
    Put {
        /// Of the key after this write; 1: the key was new.
        version: u64,
        /// What was there before, if it was asked for and there was something; without its key.
        previous: Option<KeyValue>,
    },
    /// Keys were removed.
    Deleted {
        /// How many.
        deleted: u64,
        /// What was there before, if it was asked for, in the order of keys.
        previous: Vec<KeyValue>,
    },
    /// Keys were read.
    Read(Found),
    /// A transaction within was done.
    Txn {
        /// Whether all its conditions held.
        succeeded: bool,
        /// As for [`TxnDone`].
        results: Vec<KeyOpResult>,
    },
    /// It was done. Its keys and values are more than 2 MiB, or an earlier try of this request did it, and they are not kept.
    NotKept,
}

impl Client {
    /// Has a transaction done. `session` remembers that it was, so that an unknown outcome is repeated and takes effect once;
    /// a repeated one is answered without keys and values ([`KeyOpResult::NotKept`]). Without it an unknown outcome stays
    /// unknown.
    pub async fn txn(&self, txn: Txn, session: Option<&Session>) -> Result<TxnDone, Error> {
        let (request, _serial) = txn.request(session); // open until the answer is here
        let ask = self.shared.request(repeat(&request.request_id), |channel| {
            let request = request.clone();
            async move { client(channel).txn(request).await }
        });
        TxnDone::of(ask.await?)
    }
}

impl Txn {
    /// As it is sent, with the serial that must stay open until it is answered.
    pub(crate) fn request(self, session: Option<&Session>) -> (v1::TxnRequest, Option<Serial>) {
        let (request_id, serial) = identified(session);
        (v1::TxnRequest { txn: Some(self.txn), request_id }, serial)
    }
}

impl TxnDone {
    pub(crate) fn of(reply: v1::TxnReply) -> Result<TxnDone, Error> {
        let result = reply.result.ok_or_else(without_result)?;
        let header = Header::of(reply.header.as_ref());
        Ok(TxnDone { header, succeeded: result.succeeded, results: results(result.results)? })
    }
}

fn results(results: Vec<v1::KeyOpResult>) -> Result<Vec<KeyOpResult>, Error> {
    use key_op_result::Result as Came;
    let result = |it: v1::KeyOpResult| {
        Ok(match it.result.ok_or_else(without_result)? {
            Came::Put(put) => KeyOpResult::Put { version: put.version, previous: put.previous.map(KeyValue::of) },
            Came::Delete(delete) => KeyOpResult::Deleted {
                deleted: delete.deleted,
                previous: delete.previous.into_iter().map(KeyValue::of).collect(),
            },
            Came::Read(read) => KeyOpResult::Read(Found::of(read)),
            Came::Txn(txn) => KeyOpResult::Txn { succeeded: txn.succeeded, results: self::results(txn.results)? },
            Came::NotKept(_) => KeyOpResult::NotKept,
        })
    };
    results.into_iter().map(result).collect()
}

/// It was done, but what the answer says of it is newer than this program, or broken.
fn without_result() -> Error {
    Error::unknown(ErrorKind::BadAnswer, "the store answered a transaction without its result")
}
