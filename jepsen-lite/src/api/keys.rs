//! Keys: writes, reads, transactions, watches.

use super::v1::kv_service_client::KvServiceClient;
use super::v1::watch_service_client::WatchServiceClient;
use super::v1::{self, key_compare, key_op, key_range};
use super::{Api, Outcome};

/// One step of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put(String, String),
    Get(String),
}

/// What a transaction came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct TxnOutcome {
    pub(crate) header: v1::Header,
    pub(crate) succeeded: bool,
    /// What its reads found, in order; `None`: no such key. With the revision of the key's last change.
    pub(crate) reads: Vec<Option<(String, u64)>>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn one(key: &str) -> v1::KeyRange {
    v1::KeyRange { key: key.as_bytes().to_vec(), until: None }
}

fn prefixed(prefix: &str) -> v1::KeyRange {
    v1::KeyRange { key: prefix.as_bytes().to_vec(), until: Some(key_range::Until::Prefix(key_range::Prefix {})) }
}

impl Op {
    fn wire(self) -> v1::KeyOp {
        let op = match self {
            Op::Put(key, value) => key_op::Op::Put(v1::PutOp {
                key: key.into_bytes(),
                value: Some(value.into_bytes()),
                ..v1::PutOp::default()
            }),
            Op::Get(key) => key_op::Op::Read(v1::ReadOp { keys: Some(one(&key)), ..v1::ReadOp::default() }),
        };
        v1::KeyOp { op: Some(op) }
    }
}

impl Api {
    fn kv(&self) -> KvServiceClient<tonic::transport::Channel> {
        KvServiceClient::new(self.channel())
    }

    /// A put, fenced or not, bound to a session or not; gives the header of the reply.
    pub(crate) async fn put(
        &mut self,
        key: &str,
        value: &str,
        fence: Option<(&str, u64)>,
        session: Option<u64>,
    ) -> Outcome<v1::Header> {
        let request = v1::PutRequest {
            key: key.as_bytes().to_vec(),
            value: value.as_bytes().to_vec(),
            fence: fence.map(|(election, token)| v1::Fence { election: election.to_owned(), token }),
            binding: session.map(v1::put_request::Binding::Session),
            ..v1::PutRequest::default()
        };
        let mut kv = self.kv();
        let answer = self.answered(kv.put(self.request(request))).await;
        answer.map(|reply| reply.header.unwrap_or_default())
    }

    /// A linearizable read; an absent key is `None`.
    pub(crate) async fn get(&mut self, key: &str) -> Outcome<(v1::Header, Option<String>)> {
        let request = v1::GetRequest { key: key.as_bytes().to_vec(), ..v1::GetRequest::default() };
        let mut kv = self.kv();
        let answer = self.answered(kv.get(self.request(request))).await;
        answer.map(|reply| (reply.header.unwrap_or_default(), reply.kv.map(|kv| text(&kv.value))))
    }

    pub(crate) async fn delete(&mut self, key: &str) -> Outcome<(v1::Header, u64)> {
        let request = v1::DeleteRequest { key: key.as_bytes().to_vec(), ..v1::DeleteRequest::default() };
        let mut kv = self.kv();
        let answer = self.answered(kv.delete(self.request(request))).await;
        answer.map(|reply| (reply.header.unwrap_or_default(), reply.deleted))
    }

    /// Does `then` if every key has the value or, for `None`, is not there.
    pub(crate) async fn txn_if_values(
        &mut self,
        when: &[(String, Option<String>)],
        then: Vec<Op>,
    ) -> Outcome<TxnOutcome> {
        let compare = when.iter().map(|(key, value)| {
            let operand = match value {
                Some(value) => key_compare::Operand::Value(value.as_bytes().to_vec()),
                None => key_compare::Operand::Version(0),
            };
            v1::KeyCompare {
                keys: Some(one(key)),
                relation: key_compare::Relation::Equal.into(),
                operand: Some(operand),
            }
        });
        self.txn(compare.collect(), then).await
    }

    /// Does `then` if the last change of every key was at the revision; 0: it is not there.
    pub(crate) async fn txn_if_unchanged(&mut self, when: &[(String, u64)], then: Vec<Op>) -> Outcome<TxnOutcome> {
        let compare = when.iter().map(|(key, revision)| v1::KeyCompare {
            keys: Some(one(key)),
            relation: key_compare::Relation::Equal.into(),
            operand: Some(key_compare::Operand::ModRevision(*revision)),
        });
        self.txn(compare.collect(), then).await
    }

    async fn txn(&mut self, compare: Vec<v1::KeyCompare>, then: Vec<Op>) -> Outcome<TxnOutcome> {
        let success = then.into_iter().map(Op::wire).collect();
        let txn = v1::Txn { compare, success, ..v1::Txn::default() };
        let mut kv = self.kv();
        let answer = self.answered(kv.txn(self.request(v1::TxnRequest { txn: Some(txn), request_id: None }))).await;
        answer.map(|reply| {
            let result = reply.result.unwrap_or_default();
            let reads = result.results.into_iter().filter_map(|result| match result.result {
                Some(v1::key_op_result::Result::Read(read)) => {
                    Some(read.kvs.first().map(|kv| (text(&kv.value), kv.mod_revision)))
                }
                _ => None,
            });
            TxnOutcome { header: reply.header.unwrap_or_default(), succeeded: result.succeeded, reads: reads.collect() }
        })
    }

    /// Forgets the past of keys before a revision.
    pub(crate) async fn compact(&mut self, revision: u64) -> Outcome<v1::Header> {
        let mut kv = self.kv();
        let request = self.request(v1::CompactRequest { revision, request_id: None });
        let answer = self.answered(kv.compact(request)).await;
        answer.map(|reply| reply.header.unwrap_or_default())
    }

    /// Watches all keys below a prefix from a revision on; 0: from now.
    pub(crate) async fn watch(
        &mut self,
        prefix: &str,
        from_revision: u64,
    ) -> Outcome<tonic::Streaming<v1::WatchReply>> {
        let request = v1::WatchRequest {
            keys: Some(prefixed(prefix)),
            from_revision,
            progress_interval_ms: 200,
            ..v1::WatchRequest::default()
        };
        let mut watch = WatchServiceClient::new(self.channel());
        self.answered(watch.watch(Api::stream(request))).await
    }
}
