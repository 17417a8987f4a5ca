//! Reads and transactions: requests to operations on keys, and what came of them to answers.

use std::ops::RangeInclusive;

use palisade_coord_core::keys::op::{
    Binding, Compare, Delete, Field, Findings, Found, Operand, Order, Put, Read, Relation, Shows, Txn, Within,
};
use palisade_coord_core::{Command, KeyOp, KeyReply, Keys, Op, Revision, SessionId};
use palisade_planted::{self as planted, Bug};

use super::answer::key_value;
use super::check;
use crate::coord::v1::{self, ErrorDetail, key_compare, key_op, key_op_result, key_range, put_op, read_op};
use crate::limits::{KEY_BYTES, KV_VALUE_BYTES, TXN_DEPTH, TXN_OPS};

/// A read of keys.
pub fn range(request: v1::RangeRequest) -> Result<Read, ErrorDetail> {
    read(request.read.ok_or_else(|| missing("read"))?)
}

/// A transaction.
pub fn txn(request: v1::TxnRequest, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    check::size(&request)?;
    let id = check::request_id(request.request_id)?;
    let mut budget = Budget { compares: 0, ops: 0 };
    let txn = transaction(request.txn.unwrap_or_default(), 1, &mut budget)?;
    writes_no_key_twice(&txn)?;
    Ok(Command { request: id, at_unix_ms, op: Op::Keys(KeyOp::Txn(txn)) })
}

/// A compaction.
pub fn compact(request: v1::CompactRequest, at_unix_ms: u64) -> Result<Command, ErrorDetail> {
    let op = Op::Compact { revision: Revision(request.revision) };
    Ok(Command { request: check::request_id(request.request_id)?, at_unix_ms, op })
}

/// What has been counted of a transaction.
struct Budget {
    compares: usize,
    ops: usize,
}

impl Budget {
    fn spend(&mut self, txn: &v1::Txn) -> Result<(), ErrorDetail> {
        self.compares += txn.compare.len();
        self.ops += txn.success.len() + txn.failure.len();
        let at_most = |field, count| {
            if count <= TXN_OPS {
                return Ok(());
            }
            Err(check::invalid(field, count, format!("at most {TXN_OPS} in all")))
        };
        at_most("txn.compare", self.compares)?;
        at_most("txn.success, txn.failure", self.ops)
    }
}

fn transaction(txn: v1::Txn, depth: usize, budget: &mut Budget) -> Result<Txn, ErrorDetail> {
    if depth > TXN_DEPTH {
        return Err(check::invalid("txn", format!("{depth} deep"), format!("at most {TXN_DEPTH} deep")));
    }
    budget.spend(&txn)?;
    Ok(Txn {
        fence: check::fence(txn.fence)?,
        compare: txn.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        success: operations(txn.success, depth, budget)?,
        failure: operations(txn.failure, depth, budget)?,
    })
}

fn operations(ops: Vec<v1::KeyOp>, depth: usize, budget: &mut Budget) -> Result<Vec<KeyOp>, ErrorDetail> {
    ops.into_iter().map(|op| operation(op, depth, budget)).collect()
}

fn operation(op: v1::KeyOp, depth: usize, budget: &mut Budget) -> Result<KeyOp, ErrorDetail> {
    Ok(match op.op.ok_or_else(|| missing("op"))? {
        key_op::Op::Put(it) => KeyOp::Put(put(it)?),
        key_op::Op::Delete(it) => KeyOp::Delete(Delete {
            keys: keys(it.keys)?,
            shows_previous: it.show_previous,
            fence: check::fence(it.fence)?,
        }),
        key_op::Op::Read(it) => KeyOp::Read(read(it)?),
        key_op::Op::Txn(it) => KeyOp::Txn(transaction(it, depth + 1, budget)?),
    })
}

fn put(it: v1::PutOp) -> Result<Put, ErrorDetail> {
    let value = it.value.map(|value| check::bytes("put.value", value, 0..=KV_VALUE_BYTES));
    Ok(Put {
        key: check::bytes("put.key", it.key, 1..=KEY_BYTES)?,
        value: value.transpose()?,
        session: match it.binding {
            None => Binding::None,
            Some(put_op::Binding::Session(id)) => Binding::To(check::session("put.session", id)?),
            Some(put_op::Binding::KeepSession(put_op::Keep {})) => Binding::Keep,
        },
        shows_previous: it.show_previous,
        fence: check::fence(it.fence)?,
    })
}

fn read(it: v1::ReadOp) -> Result<Read, ErrorDetail> {
    let by = match read_op::Field::try_from(it.sort_by) {
        Ok(read_op::Field::Key) => Field::Key,
        Ok(read_op::Field::Version) => Field::Version,
        Ok(read_op::Field::CreateRevision) => Field::Created,
        Ok(read_op::Field::ModRevision) => Field::Written,
        Ok(read_op::Field::Value) => Field::Value,
        Err(_) => return Err(unknown("read.sort_by", it.sort_by)),
    };
    let shows = match read_op::Show::try_from(it.show) {
        Ok(read_op::Show::Whole) => Shows::Whole,
        Ok(read_op::Show::NoValues) => Shows::NoValues,
        Ok(read_op::Show::Count) => Shows::Count,
        Err(_) => return Err(unknown("read.show", it.show)),
    };
    let within = |first, last| {
        let last = if last == 0 { u64::MAX } else { last };
        Within { first: Revision(first), last: Revision(last) }
    };
    Ok(Read {
        revision: (it.revision != 0 && !planted::is(Bug::PastAsPresent)).then_some(Revision(it.revision)),
        limit: it.limit,
        order: Order { by, descending: it.descending },
        shows,
        written: within(it.min_mod_revision, it.max_mod_revision),
        created: within(it.min_create_revision, it.max_create_revision),
        keys: keys(it.keys)?,
    })
}

fn compare(it: v1::KeyCompare) -> Result<Compare, ErrorDetail> {
    let relation = match key_compare::Relation::try_from(it.relation) {
        Ok(key_compare::Relation::Equal) => Relation::Equal,
        Ok(key_compare::Relation::NotEqual) => Relation::NotEqual,
        Ok(key_compare::Relation::Greater) => Relation::Greater,
        Ok(key_compare::Relation::Less) => Relation::Less,
        Err(_) => return Err(unknown("compare.relation", it.relation)),
    };
    let operand = match it.operand.ok_or_else(|| missing("compare.operand"))? {
        key_compare::Operand::Version(version) => Operand::Version(version),
        key_compare::Operand::CreateRevision(revision) => Operand::Created(Revision(revision)),
        key_compare::Operand::ModRevision(revision) => Operand::Written(Revision(revision)),
        key_compare::Operand::Value(value) => Operand::Value(check::bytes("compare.value", value, 0..=KV_VALUE_BYTES)?),
        key_compare::Operand::Session(id) => Operand::Session((id != 0).then_some(SessionId(id))),
    };
    Ok(Compare { keys: keys(it.keys)?, relation, operand })
}

pub(super) fn keys(range: Option<v1::KeyRange>) -> Result<Keys, ErrorDetail> {
    let v1::KeyRange { key, until } = range.ok_or_else(|| missing("keys"))?;
    let key = |allowed: RangeInclusive<usize>| check::bytes("keys.key", key, allowed);
    Ok(match until {
        None => Keys::One(key(1..=KEY_BYTES)?),
        Some(key_range::Until::To(to)) => {
            Keys::Span { from: key(0..=KEY_BYTES)?, to: check::bytes("keys.to", to, 1..=KEY_BYTES)? }
        }
        Some(key_range::Until::Rest(_)) => Keys::From(key(0..=KEY_BYTES)?),
        Some(key_range::Until::Prefix(_)) => Keys::prefix(key(0..=KEY_BYTES)?),
    })
}

/// A choice that a newer client may know. Taking another for it would do what nobody asked for.
fn unknown(field: &str, value: i32) -> ErrorDetail {
    check::invalid(field, value, "a choice that this server knows")
}

fn missing(field: &str) -> ErrorDetail {
    check::invalid(field, "none that this server knows", "one")
}

/// What a list of operations may write.
#[derive(Default)]
struct Writes<'a> {
    puts: Vec<&'a [u8]>,
    removals: Vec<&'a Keys>,
}

impl<'a> Writes<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), ErrorDetail> {
        if self.puts.contains(&key) || self.removals.iter().any(|keys| keys.has(key)) {
            return Err(twice(key));
        }
        self.puts.push(key);
        Ok(())
    }

    fn remove(&mut self, keys: &'a Keys) -> Result<(), ErrorDetail> {
        if let Some(key) = self.puts.iter().find(|key| keys.has(key)) {
            return Err(twice(key));
        }
        self.removals.push(keys);
        Ok(())
    }

    /// Of one branch, which must not write what was written before it.
    fn add(&mut self, branch: &Writes<'a>) -> Result<(), ErrorDetail> {
        branch.puts.iter().try_for_each(|key| self.put(key))?;
        branch.removals.iter().try_for_each(|keys| self.remove(keys))
    }
}

/// As in etcd: whichever way a transaction goes, it puts no key twice, nor one that it removes. A removal may be repeated.
fn writes_no_key_twice(txn: &Txn) -> Result<(), ErrorDetail> {
    writes(&txn.success)?;
    writes(&txn.failure)?;
    Ok(())
}

fn writes(ops: &[KeyOp]) -> Result<Writes<'_>, ErrorDetail> {
    let mut all = Writes::default();
    for op in ops {
        match op {
            KeyOp::Put(put) => all.put(&put.key)?,
            KeyOp::Delete(delete) => all.remove(&delete.keys)?,
            KeyOp::Read(_) => {}
            KeyOp::Txn(txn) => {
                // Only one of the two is done: they may write the same.
                let (success, failure) = (writes(&txn.success)?, writes(&txn.failure)?);
                let mut before = Writes { puts: all.puts.clone(), removals: all.removals.clone() };
                before.add(&failure)?;
                all.add(&success)?;
                all.puts.extend(failure.puts);
                all.removals.extend(failure.removals);
            }
        }
    }
    Ok(all)
}

fn twice(key: &[u8]) -> ErrorDetail {
    check::invalid("txn", key.escape_ascii(), "each key written once by what is done")
}

/// What a read found.
pub fn range_result(findings: &Findings) -> v1::ReadResult {
    v1::ReadResult { kvs: findings.found.iter().map(found).collect(), count: findings.count, more: findings.more }
}

/// A key that was found.
pub fn found(found: &Found) -> v1::KeyValue {
    key_value(&found.key, &found.kv)
}

/// What came of a transaction; `None`: the reply is not a transaction's. The request names the keys that were put.
pub fn txn_result(reply: &KeyReply) -> Option<v1::TxnResult> {
    let KeyReply::Txn { succeeded, replies } = reply else { return None };
    Some(v1::TxnResult { succeeded: *succeeded, results: replies.iter().map(result).collect() })
}

fn result(reply: &KeyReply) -> v1::KeyOpResult {
    use key_op_result::{NotKept, Result};
    let result = match reply {
        // What was there before has the key of the request.
        KeyReply::Put { version, previous } => {
            let previous = previous.as_ref().map(|kv| key_value(&[], kv));
            Result::Put(v1::PutResult { version: *version, previous })
        }
        KeyReply::Deleted { deleted, previous } => {
            Result::Delete(v1::DeleteResult { deleted: *deleted, previous: previous.iter().map(found).collect() })
        }
        KeyReply::Read(findings) => Result::Read(range_result(findings)),
        KeyReply::Txn { succeeded, replies } => {
            Result::Txn(v1::TxnResult { succeeded: *succeeded, results: replies.iter().map(self::result).collect() })
        }
        KeyReply::NotKept => Result::NotKept(NotKept {}),
    };
    v1::KeyOpResult { result: Some(result) }
}
