//! Reads and transactions: what is allowed becomes the operation that it says, what is not is named.

use palisade_coord_core::keys::op::{Binding, Compare, Field, Operand, Order, Put, Read, Relation, Shows, Within};
use palisade_coord_core::{Command, KeyOp, Keys, Op, Revision, SessionId};
use palisade_fence::Token;
use palisade_wire::convert::KeyLimits;
use palisade_wire::coord::v1::{self, ErrorDetail, key_compare, key_op, key_range, put_op, read_op};
use palisade_wire::{convert, limits};

fn one(key: &str) -> Option<v1::KeyRange> {
    Some(v1::KeyRange { key: key.into(), until: None })
}

fn until(key: &str, until: key_range::Until) -> Option<v1::KeyRange> {
    Some(v1::KeyRange { until: Some(until), ..one(key).unwrap() })
}

fn put(key: &str) -> v1::KeyOp {
    let put = v1::PutOp { key: key.into(), value: Some(b"v".to_vec()), ..Default::default() };
    v1::KeyOp { op: Some(key_op::Op::Put(put)) }
}

fn delete(keys: Option<v1::KeyRange>) -> v1::KeyOp {
    v1::KeyOp { op: Some(key_op::Op::Delete(v1::DeleteOp { keys, ..Default::default() })) }
}

fn nested(success: Vec<v1::KeyOp>, failure: Vec<v1::KeyOp>) -> v1::KeyOp {
    v1::KeyOp { op: Some(key_op::Op::Txn(v1::Txn { success, failure, ..Default::default() })) }
}

fn txn(success: Vec<v1::KeyOp>) -> Result<KeyOp, ErrorDetail> {
    let txn = v1::Txn { success, ..Default::default() };
    let command = convert::txn(v1::TxnRequest { txn: Some(txn), request_id: None }, 0)?;
    let Op::Keys(op) = command.op else { panic!("{command:?}") };
    Ok(op)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ErrorDetail>, field: &str, value: &str) {
    let detail = result.unwrap_err();
    assert_eq!((detail.field.as_str(), detail.value.as_str()), (field, value));
}

#[test]
fn a_read_becomes_what_it_says() {
    let read = v1::ReadOp {
        keys: until("a", key_range::Until::Prefix(key_range::Prefix {})),
        revision: 7,
        limit: 3,
        sort_by: read_op::Field::ModRevision.into(),
        descending: true,
        show: read_op::Show::NoValues.into(),
        min_mod_revision: 2,
        max_mod_revision: 6,
        ..Default::default()
    };
    let expected = Read {
        revision: Some(Revision(7)),
        limit: 3,
        order: Order { by: Field::Written, descending: true },
        shows: Shows::NoValues,
        written: Within { first: Revision(2), last: Revision(6) },
        ..Read::new(Keys::prefix(*b"a"))
    };
    assert_eq!(convert::range(v1::RangeRequest { read: Some(read.clone()), serializable: false }), Ok(expected));
    refused(convert::range(v1::RangeRequest::default()), "read", "none that this server knows");
    let with = |read| convert::range(v1::RangeRequest { read: Some(read), serializable: false });
    refused(with(v1::ReadOp { keys: None, ..read.clone() }), "keys", "none that this server knows");
    refused(with(v1::ReadOp { keys: one(""), ..read.clone() }), "keys.key", "0 bytes");
    refused(with(v1::ReadOp { sort_by: 9, ..read.clone() }), "read.sort_by", "9");
    refused(with(v1::ReadOp { show: 9, ..read }), "read.show", "9");
}

#[cfg(feature = "planted")]
#[test]
fn the_planted_bug_that_reads_the_present_for_the_past_is_caught() {
    let why = palisade_planted::caught(palisade_planted::Bug::PastAsPresent, a_read_becomes_what_it_says);
    assert!(why.is_some_and(|why| why.contains("revision: None")));
}

#[test]
fn a_transaction_becomes_what_it_says() {
    let compare = v1::KeyCompare {
        keys: until("a", key_range::Until::To(b"b".to_vec())),
        relation: key_compare::Relation::Less.into(),
        operand: Some(key_compare::Operand::Session(0)),
    };
    let put = v1::PutOp {
        key: b"k".to_vec(),
        value: None,
        binding: Some(put_op::Binding::Session(4)),
        show_previous: true,
        fence: Some(v1::Fence { election: "jobs".to_owned(), token: 3 }),
    };
    let success = vec![v1::KeyOp { op: Some(key_op::Op::Put(put)) }];
    let request = v1::Txn { fence: None, compare: vec![compare], success, failure: vec![nested(vec![], vec![])] };
    let command = convert::txn(v1::TxnRequest { txn: Some(request), request_id: None }, 5).unwrap();
    let Op::Keys(KeyOp::Txn(txn)) = command.op else { panic!("{command:?}") };
    let keys = Keys::Span { from: b"a".to_vec(), to: b"b".to_vec() };
    assert_eq!(txn.compare, [Compare { keys, relation: Relation::Less, operand: Operand::Session(None) }]);
    let [KeyOp::Put(Put { key, value: None, session, shows_previous: true, fence: Some(fence) })] = &txn.success[..]
    else {
        panic!("{txn:?}")
    };
    assert_eq!((key.as_slice(), *session), (b"k".as_slice(), Binding::To(SessionId(4))));
    assert_eq!((fence.election.as_str(), fence.token), ("jobs", Token::new(0, 3)));
    assert!(matches!(&txn.failure[..], [KeyOp::Txn(inner)] if inner.success.is_empty()));
}

/// What one node allows, which is at most what the formats allow.
#[test]
fn a_node_may_allow_less() {
    let limits = KeyLimits { key_bytes: 2, value_bytes: 3, txn_ops: 2, request_bytes: 1_024 };
    let command = |ops| Command::new(0, Op::Keys(txn(ops).unwrap()));
    let refused = |command: Command, bytes, field: &str, limit: &str| {
        let detail = limits.check(&command, bytes).unwrap_err();
        assert_eq!((detail.field.as_str(), detail.limit.as_str()), (field, limit));
        assert_eq!(detail.outcome(), v1::error_detail::Outcome::NotApplied);
    };
    let single = |key: &str, value: &str| {
        let request = v1::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        convert::put(request, 0).unwrap()
    };
    assert!(limits.check(&single("k1", "abc"), 1_024).is_ok());
    refused(single("key", ""), 9, "key", "at most 2 bytes");
    refused(single("k", "abcd"), 9, "value", "at most 3 bytes");
    refused(single("k", ""), 1_025, "request", "at most 1024 bytes encoded");
    assert!(limits.check(&command(vec![put("k1"), put("k2")]), 9).is_ok());
    refused(command(vec![put("k1"), put("k2"), put("k3")]), 9, "txn.success, txn.failure", "at most 2 in all");
    refused(
        command(vec![nested(vec![put("k1"), put("k2")], vec![])]),
        9,
        "txn.success, txn.failure",
        "at most 2 in all",
    );
    refused(command(vec![nested(vec![put("long")], vec![])]), 9, "put.key", "at most 2 bytes");
    assert!(KeyLimits::default().check(&single("long", "longer"), 9).is_ok());
}

#[test]
fn transactions_are_limited() {
    let many = |count: usize| txn((0..count).map(|n| put(&format!("k{n}"))).collect());
    assert!(many(limits::TXN_OPS).is_ok());
    refused(many(limits::TXN_OPS + 1), "txn.success, txn.failure", "129");
    // Those within count, of both branches.
    let half = |from: usize| (from..from + 64).map(|n| put(&format!("k{n}"))).collect::<Vec<_>>();
    refused(txn(vec![nested(half(0), half(64))]), "txn.success, txn.failure", "129");

    let deep = |depth: usize| (1..depth).fold(vec![], |ops, _| vec![nested(ops, vec![])]);
    assert!(txn(deep(limits::TXN_DEPTH)).is_ok());
    refused(txn(deep(limits::TXN_DEPTH + 1)), "txn", "9 deep");

    let large = v1::PutOp { key: b"k".to_vec(), value: Some(vec![0; (1 << 20) + 1]), ..Default::default() };
    refused(txn(vec![v1::KeyOp { op: Some(key_op::Op::Put(large)) }]), "put.value", "1048577 bytes");
    refused(txn(vec![put("")]), "put.key", "0 bytes");
    refused(txn(vec![v1::KeyOp { op: None }]), "op", "none that this server knows");
}

#[test]
fn no_way_through_a_transaction_writes_a_key_twice() {
    let rest = || until("b", key_range::Until::Rest(key_range::Rest {}));
    refused(txn(vec![put("a"), put("a")]), "txn", "a");
    refused(txn(vec![put("c"), delete(rest())]), "txn", "c");
    refused(txn(vec![delete(rest()), put("c")]), "txn", "c");
    refused(txn(vec![put("a"), nested(vec![], vec![put("a")])]), "txn", "a");
    refused(txn(vec![nested(vec![], vec![put("a")]), put("a")]), "txn", "a");
    refused(txn(vec![nested(vec![put("a"), put("a")], vec![])]), "txn", "a");
    refused(txn(vec![nested(vec![delete(rest())], vec![]), put("b")]), "txn", "b");
    assert!(txn(vec![put("a"), delete(rest()), delete(rest())]).is_ok());
    assert!(txn(vec![nested(vec![put("a")], vec![put("a"), delete(rest())])]).is_ok(), "one or the other");
}
