//! Data streams through a cluster: answers in any order, errors that end one call only, reads that see what was acknowledged.

use std::collections::BTreeMap;

use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::pipeline_answer::Answer;
use palisade_wire::coord::v1::pipeline_call::Request;
use palisade_wire::coord::v1::{
    DeleteRequest, ErrorDetail, Fence, GetRequest, KeyOp, KeyRange, PipelineAnswers, PipelineCall, PipelineCalls,
    PutOp, PutRequest, RangeRequest, ReadOp, RequestId, Txn, TxnRequest, key_op, key_range,
};
use palisade_wire::limits::MESSAGE_BYTES;
use palisade_wire::status::detail;
use palisade_world::World;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::cluster::{Cluster, soon};
use crate::session::SessionStream;

/// A data stream as any client has it.
pub(crate) struct Pipeline {
    send: Option<mpsc::Sender<PipelineCalls>>,
    receive: Streaming<PipelineAnswers>,
    world: World,
}

impl Pipeline {
    pub(crate) async fn open(cluster: &Cluster, node: u64) -> Pipeline {
        let (send, calls) = mpsc::channel(16);
        let mut kv = cluster.kv(node).max_decoding_message_size(MESSAGE_BYTES);
        let receive = kv.pipeline(ReceiverStream::new(calls)).await.unwrap().into_inner();
        Pipeline { send: Some(send), receive, world: cluster.world.clone() }
    }

    /// One message of calls.
    pub(crate) async fn send(&self, calls: impl IntoIterator<Item = (u64, Request)>) {
        let calls = calls.into_iter().map(|(call, request)| PipelineCall { call, request: Some(request) }).collect();
        self.send.as_ref().expect("it is open").send(PipelineCalls { calls }).await.unwrap();
    }

    /// The next message of answers.
    pub(crate) async fn message(&mut self) -> Result<Option<PipelineAnswers>, Status> {
        soon(&self.world, "a message of answers", self.receive.message()).await
    }

    /// As many answers as this, by call. None comes twice.
    pub(crate) async fn answers(&mut self, count: usize) -> BTreeMap<u64, Answer> {
        let mut answers = BTreeMap::new();
        while answers.len() < count {
            for answer in self.message().await.unwrap().expect("the stream goes on").answers {
                assert!(answers.insert(answer.call, answer.answer.unwrap()).is_none(), "answered twice");
            }
        }
        answers
    }
}

pub(crate) fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Request {
    Request::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
}

fn get(key: &str) -> Request {
    Request::Get(GetRequest { key: key.into(), ..GetRequest::default() })
}

fn error(answer: &Answer) -> &ErrorDetail {
    match answer {
        Answer::Error(error) => error,
        other => panic!("expected an error, got {other:?}"),
    }
}

fn value(answer: &Answer) -> Option<&[u8]> {
    match answer {
        Answer::Get(reply) => reply.kv.as_ref().map(|kv| kv.value.as_slice()),
        other => panic!("expected what a get found, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_call_is_answered_as_its_single_form_is() {
    let cluster = Cluster::start(3, 51).await;
    let leader = cluster.leader().await;
    let mut pipeline = Pipeline::open(&cluster, leader).await;
    pipeline.send([(1, put("a", "1")), (2, put("b", "2"))]).await;
    let puts = pipeline.answers(2).await;
    assert!(matches!(&puts[&1], Answer::Put(reply) if reply.version == 1 && reply.header.unwrap().cluster_id != 0));

    let keys = KeyRange { key: b"a".to_vec(), until: Some(key_range::Until::Rest(key_range::Rest {})) };
    let read = ReadOp { keys: Some(keys), ..ReadOp::default() };
    let op = PutOp { key: b"c".to_vec(), value: Some(b"3".to_vec()), ..PutOp::default() };
    let txn = Txn { success: vec![KeyOp { op: Some(key_op::Op::Put(op)) }], ..Txn::default() };
    let calls = [
        (3, get("a")),
        (4, get("absent")),
        (5, Request::Range(RangeRequest { read: Some(read), serializable: false })),
        (6, Request::Txn(TxnRequest { txn: Some(txn), request_id: None })),
        (7, Request::Delete(DeleteRequest { key: b"b".to_vec(), ..DeleteRequest::default() })),
    ];
    pipeline.send(calls).await;
    let answers = pipeline.answers(5).await;
    assert_eq!((value(&answers[&3]), value(&answers[&4])), (Some(&b"1"[..]), None));
    assert!(matches!(&answers[&5], Answer::Range(reply) if reply.result.as_ref().unwrap().count >= 1));
    assert!(matches!(&answers[&6], Answer::Txn(reply) if reply.result.as_ref().unwrap().succeeded));
    assert!(matches!(&answers[&7], Answer::Delete(reply) if reply.deleted == 1));
}

/// More than is looked up while applying waits: made on a copy, and it finds the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_very_many_keys_finds_all_of_them() {
    let cluster = Cluster::start(3, 53).await;
    let leader = cluster.leader().await;
    let mut pipeline = Pipeline::open(&cluster, leader).await;
    let keys: u64 = palisade_coord_core::limits::LONG_READ + 1;
    // Many by one command: the state machine of a test checks itself after each.
    for from in (0..keys).step_by(128) {
        let put = |key: u64| {
            let put = PutOp { key: key.to_be_bytes().to_vec(), value: Some(b"v".to_vec()), ..PutOp::default() };
            KeyOp { op: Some(key_op::Op::Put(put)) }
        };
        let txn = Txn { success: (from..keys.min(from + 128)).map(put).collect(), ..Txn::default() };
        pipeline.send([(1, Request::Txn(TxnRequest { txn: Some(txn), request_id: None }))]).await;
        let answers = pipeline.answers(1).await;
        assert!(matches!(&answers[&1], Answer::Txn(_)), "{answers:?}");
    }
    let all = KeyRange { key: Vec::new(), until: Some(key_range::Until::Prefix(key_range::Prefix {})) };
    let read = ReadOp { keys: Some(all), limit: 3, descending: true, ..ReadOp::default() };
    let range = RangeRequest { read: Some(read), serializable: false };
    pipeline.send([(1, Request::Range(range.clone())), (2, get("absent"))]).await;
    let answers = pipeline.answers(2).await;
    let Answer::Range(piped) = &answers[&1] else { panic!("{answers:?}") };
    let single = cluster.kv(leader).range(range).await.unwrap().into_inner();
    for result in [piped.result.as_ref().unwrap(), single.result.as_ref().unwrap()] {
        assert_eq!((result.count, result.more), (keys, true));
        let found: Vec<_> = result.kvs.iter().map(|kv| kv.key.clone()).collect();
        assert_eq!(found, [keys - 1, keys - 2, keys - 3].map(|key| key.to_be_bytes().to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_refused_ends_alone() {
    let cluster = Cluster::start(3, 52).await;
    let leader = cluster.leader().await;
    let mut pipeline = Pipeline::open(&cluster, leader).await;
    let fence = Some(Fence { election: "nobody".to_owned(), token: 7 });
    let fenced = Request::Put(PutRequest { key: b"k".to_vec(), fence, ..PutRequest::default() });
    pipeline.send([(1, put("", "x")), (2, put("k", "v")), (3, get("")), (4, fenced)]).await;
    let nothing = PipelineCalls { calls: vec![PipelineCall { call: 5, request: None }] };
    pipeline.send.as_ref().unwrap().send(nothing).await.unwrap();
    let answers = pipeline.answers(5).await;
    assert!(matches!(answers[&2], Answer::Put(_)));
    for (call, field) in [(1, "key"), (3, "key"), (5, "request")] {
        let error = error(&answers[&call]);
        assert_eq!((error.kind(), error.outcome()), (Kind::InvalidArgument, Outcome::NotApplied));
        assert_eq!(error.field, field);
    }
    let stale = error(&answers[&4]);
    assert_eq!((stale.kind(), stale.outcome()), (Kind::StaleToken, Outcome::NotApplied));
    // Its numbers are free again.
    pipeline.send([(1, get("k"))]).await;
    assert_eq!(value(&pipeline.answers(1).await[&1]), Some(&b"v"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_sees_every_write_that_was_acknowledged_on_any_stream() {
    let cluster = Cluster::start(3, 53).await;
    let leader = cluster.leader().await;
    let (mut writer, mut reader) = (Pipeline::open(&cluster, leader).await, Pipeline::open(&cluster, leader).await);
    for round in 1..=50u64 {
        writer.send([(round, put("k", round.to_string()))]).await;
        writer.answers(1).await;
        reader.send([(round, get("k"))]).await;
        let answers = reader.answers(1).await;
        assert_eq!(value(&answers[&round]), Some(round.to_string().as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_calls_are_each_answered_once_and_a_repeated_request_takes_effect_once() {
    let cluster = Cluster::start(3, 54).await;
    let leader = cluster.leader().await;
    let session = SessionStream::connect(&cluster, leader).await.open().await;
    let mut pipeline = Pipeline::open(&cluster, leader).await;
    let calls = |from: u64| (from..from + 1_000).map(|n| (n, put(format!("key-{}", n % 100), n.to_string())));
    for from in [1, 1_001, 2_001] {
        pipeline.send(calls(from)).await;
    }
    let answers = pipeline.answers(3_000).await;
    let mut seqs: Vec<_> = answers
        .values()
        .map(|answer| match answer {
            Answer::Put(reply) => reply.header.unwrap().seq,
            other => panic!("{other:?}"),
        })
        .collect();
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs.len(), 3_000, "each write has its own place in the order");

    let request_id = Some(RequestId { session, serial: 1, acked_below: 1 });
    let once = Request::Put(PutRequest { key: b"once".to_vec(), request_id, ..PutRequest::default() });
    pipeline.send([(1, once.clone()), (2, once)]).await;
    let answers = pipeline.answers(2).await;
    assert_eq!(answers[&1], answers[&2], "the same answer, with the place in the order that the write has");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_numbers_its_calls_wrongly_ends_with_words() {
    let cluster = Cluster::start(1, 55).await;
    let leader = cluster.leader().await;
    for calls in [vec![(0, put("k", "v"))], vec![(7, put("k", "v")), (7, put("k", "w"))]] {
        let mut pipeline = Pipeline::open(&cluster, leader).await;
        pipeline.send(calls).await;
        let status = pipeline.message().await.expect_err("the stream ends");
        let detail = detail(&status).expect("it is typed");
        assert_eq!((detail.kind(), detail.outcome()), (Kind::InvalidArgument, Outcome::Unknown));
        assert_eq!(detail.field, "call");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_at_a_node_that_does_not_lead_is_served_all_the_same() {
    let cluster = Cluster::start(3, 56).await;
    let leader = cluster.leader().await;
    let other = (1..=3).find(|id| *id != leader).unwrap();
    cluster
        .until("the follower to know the store leader", async || {
            let mut pipeline = Pipeline::open(&cluster, other).await;
            pipeline.send([(1, put("k", "v")), (2, get("k"))]).await;
            let served = |answers: BTreeMap<u64, Answer>| answers.values().all(|it| !matches!(it, Answer::Error(_)));
            match pipeline.message().await {
                Ok(Some(answers)) => {
                    let mut all: BTreeMap<_, _> =
                        answers.answers.into_iter().map(|it| (it.call, it.answer.unwrap())).collect();
                    if all.len() < 2 {
                        all.extend(pipeline.answers(1).await);
                    }
                    served(all).then_some(())
                }
                // It does not know yet whom to pass it on to.
                Ok(None) | Err(_) => None,
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_client_sends_no_more_ends_when_all_is_answered() {
    let cluster = Cluster::start(1, 57).await;
    let mut pipeline = Pipeline::open(&cluster, cluster.leader().await).await;
    pipeline.send((1..=100).map(|call| (call, put("k", "v")))).await;
    pipeline.send = None;
    assert_eq!(pipeline.answers(100).await.len(), 100);
    assert!(pipeline.message().await.expect("it ended well").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_hold_up_their_own_stream_only() {
    let cluster = Cluster::start(1, 58).await;
    let leader = cluster.leader().await;
    let mut kv = cluster.kv(leader);
    let large = PutRequest { key: b"large".to_vec(), value: vec![7; 1 << 20], ..PutRequest::default() };
    kv.put(large).await.unwrap();
    // A gigabyte of answers, and nobody takes them.
    let mut deaf = Pipeline::open(&cluster, leader).await;
    deaf.send((1..=1_000).map(|call| (call, get("large")))).await;
    let mut other = Pipeline::open(&cluster, leader).await;
    for call in 1..=20 {
        other.send([(call, put("k", "v"))]).await;
        assert_eq!(other.answers(1).await.len(), 1);
    }
    // They are made when they are taken.
    assert_eq!(deaf.answers(1_000).await.len(), 1_000);
}
