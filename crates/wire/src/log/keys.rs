//! Operations on keys in the log.

use palisade_coord_core::keys::op::{
    Binding, Compare, Delete, Field, Operand, Order, Put, Read, Relation, Shows, Txn, Within,
};
use palisade_coord_core::{KeyOp, Keys, Revision, SessionId};

use super::{from_fence, record, to_fence};
use crate::WireError;

pub(super) fn to_put(put: &Put) -> record::Put {
    record::Put {
        key: put.key.clone(),
        value: put.value.clone().unwrap_or_default(),
        fence: to_fence(&put.fence),
        keeps_value: put.value.is_none(),
        binding: match put.session {
            Binding::None => None,
            Binding::To(session) => Some(record::put::Binding::Session(session.get())),
            Binding::Keep => Some(record::put::Binding::Kept(record::put::Kept {})),
        },
        shows_previous: put.shows_previous,
    }
}

pub(super) fn from_put(it: record::Put) -> Result<Put, WireError> {
    Ok(Put {
        key: it.key,
        value: (!it.keeps_value).then_some(it.value),
        session: match it.binding {
            None => Binding::None,
            Some(record::put::Binding::Session(session)) => Binding::To(SessionId(session)),
            Some(record::put::Binding::Kept(_)) => Binding::Keep,
        },
        shows_previous: it.shows_previous,
        fence: from_fence(it.fence)?,
    })
}

pub(super) fn to_delete(delete: &Delete) -> record::Delete {
    record::Delete {
        keys: Some(to_keys(&delete.keys)),
        fence: to_fence(&delete.fence),
        shows_previous: delete.shows_previous,
    }
}

pub(super) fn from_delete(it: record::Delete) -> Result<Delete, WireError> {
    let (keys, fence) = (from_keys(it.keys)?, from_fence(it.fence)?);
    Ok(Delete { keys, shows_previous: it.shows_previous, fence })
}

pub(super) fn to_read(read: &Read) -> record::Read {
    let within = |within: &Within| {
        let is_all = *within == Within::default();
        (!is_all).then(|| record::Within { first: within.first.get(), last: within.last.get() })
    };
    let order_by = match read.order.by {
        Field::Key => record::Field::Key,
        Field::Version => record::Field::Version,
        Field::Created => record::Field::Created,
        Field::Written => record::Field::Written,
        Field::Value => record::Field::Value,
    };
    let shows = match read.shows {
        Shows::Whole => record::Shows::Whole,
        Shows::NoValues => record::Shows::NoValues,
        Shows::Count => record::Shows::Count,
    };
    record::Read {
        keys: Some(to_keys(&read.keys)),
        revision: read.revision.map(Revision::get),
        limit: read.limit,
        order_by: order_by.into(),
        descending: read.order.descending,
        shows: shows.into(),
        written: within(&read.written),
        created: within(&read.created),
    }
}

pub(super) fn from_read(it: record::Read) -> Result<Read, WireError> {
    let within = |within: Option<record::Within>| {
        within.map_or_else(Within::default, |it| Within { first: Revision(it.first), last: Revision(it.last) })
    };
    let by = match record::Field::try_from(it.order_by) {
        Ok(record::Field::Key) => Field::Key,
        Ok(record::Field::Version) => Field::Version,
        Ok(record::Field::Created) => Field::Created,
        Ok(record::Field::Written) => Field::Written,
        Ok(record::Field::Value) => Field::Value,
        Err(_) => return Err(WireError::field("read.order_by", it.order_by)),
    };
    let shows = match record::Shows::try_from(it.shows) {
        Ok(record::Shows::Whole) => Shows::Whole,
        Ok(record::Shows::NoValues) => Shows::NoValues,
        Ok(record::Shows::Count) => Shows::Count,
        Err(_) => return Err(WireError::field("read.shows", it.shows)),
    };
    Ok(Read {
        keys: from_keys(it.keys)?,
        revision: it.revision.map(Revision),
        limit: it.limit,
        order: Order { by, descending: it.descending },
        shows,
        written: within(it.written),
        created: within(it.created),
    })
}

pub(super) fn to_txn(txn: &Txn) -> record::Txn {
    record::Txn {
        fence: to_fence(&txn.fence),
        compare: txn.compare.iter().map(to_compare).collect(),
        success: txn.success.iter().map(to_op).collect(),
        failure: txn.failure.iter().map(to_op).collect(),
    }
}

pub(super) fn from_txn(it: record::Txn) -> Result<Txn, WireError> {
    let ops = |ops: Vec<record::KeyOp>| ops.into_iter().map(from_op).collect::<Result<_, _>>();
    Ok(Txn {
        fence: from_fence(it.fence)?,
        compare: it.compare.into_iter().map(from_compare).collect::<Result<_, _>>()?,
        success: ops(it.success)?,
        failure: ops(it.failure)?,
    })
}

fn to_op(op: &KeyOp) -> record::KeyOp {
    use record::key_op::Op;
    let op = match op {
        KeyOp::Put(put) => Op::Put(to_put(put)),
        KeyOp::Delete(delete) => Op::Delete(to_delete(delete)),
        KeyOp::Read(read) => Op::Read(to_read(read)),
        KeyOp::Txn(txn) => Op::Txn(to_txn(txn)),
    };
    record::KeyOp { op: Some(op) }
}

fn from_op(it: record::KeyOp) -> Result<KeyOp, WireError> {
    use record::key_op::Op;
    Ok(match it.op.ok_or_else(|| WireError::missing("txn.op"))? {
        Op::Put(it) => KeyOp::Put(from_put(it)?),
        Op::Delete(it) => KeyOp::Delete(from_delete(it)?),
        Op::Read(it) => KeyOp::Read(from_read(it)?),
        Op::Txn(it) => KeyOp::Txn(from_txn(it)?),
    })
}

fn to_compare(compare: &Compare) -> record::Compare {
    use record::compare::Operand as To;
    let relation = match compare.relation {
        Relation::Equal => record::Relation::Equal,
        Relation::NotEqual => record::Relation::NotEqual,
        Relation::Greater => record::Relation::Greater,
        Relation::Less => record::Relation::Less,
    };
    let operand = match &compare.operand {
        Operand::Version(version) => To::Version(*version),
        Operand::Created(revision) => To::Created(revision.get()),
        Operand::Written(revision) => To::Written(revision.get()),
        Operand::Value(value) => To::Value(value.clone()),
        Operand::Session(session) => To::Session(session.map_or(0, SessionId::get)),
    };
    record::Compare { keys: Some(to_keys(&compare.keys)), relation: relation.into(), operand: Some(operand) }
}

fn from_compare(it: record::Compare) -> Result<Compare, WireError> {
    use record::compare::Operand as From;
    let relation = match record::Relation::try_from(it.relation) {
        Ok(record::Relation::Equal) => Relation::Equal,
        Ok(record::Relation::NotEqual) => Relation::NotEqual,
        Ok(record::Relation::Greater) => Relation::Greater,
        Ok(record::Relation::Less) => Relation::Less,
        Err(_) => return Err(WireError::field("compare.relation", it.relation)),
    };
    let operand = match it.operand.ok_or_else(|| WireError::missing("compare.operand"))? {
        From::Version(version) => Operand::Version(version),
        From::Created(revision) => Operand::Created(Revision(revision)),
        From::Written(revision) => Operand::Written(Revision(revision)),
        From::Value(value) => Operand::Value(value),
        From::Session(session) => Operand::Session((session != 0).then_some(SessionId(session))),
    };
    Ok(Compare { keys: from_keys(it.keys)?, relation, operand })
}

fn to_keys(keys: &Keys) -> record::Keys {
    use record::keys::{Onward, Until};
    let (from, until) = match keys {
        Keys::One(key) => (key, None),
        Keys::Span { from, to } => (from, Some(Until::To(to.clone()))),
        Keys::From(from) => (from, Some(Until::Onward(Onward {}))),
    };
    record::Keys { from: from.clone(), until }
}

fn from_keys(it: Option<record::Keys>) -> Result<Keys, WireError> {
    use record::keys::Until;
    let record::Keys { from, until } = it.ok_or_else(|| WireError::missing("keys"))?;
    Ok(match until {
        None => Keys::One(from),
        Some(Until::To(to)) => Keys::Span { from, to },
        Some(Until::Onward(_)) => Keys::From(from),
    })
}
