//! Keys, fences and request ids, through a cluster of three.

use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::{
    CompactRequest, DeleteRequest, Fence, GetRequest, KeyCompare, KeyOp, KeyRange, PutOp, PutRequest, RangeReply,
    RangeRequest, ReadOp, RequestId, ResignRequest, Txn, TxnReply, TxnRequest, key_compare, key_op, key_range,
    put_request,
};
use palisade_wire::status::detail;

use crate::cluster::Cluster;
use crate::session::SessionStream;

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn get(key: &str) -> GetRequest {
    GetRequest { key: key.into(), ..GetRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_written_read_and_removed_with_their_counters() {
    let cluster = Cluster::start(3, 1).await;
    let mut kv = cluster.kv(cluster.leader().await);

    let first = kv.put(put("a", "1")).await.unwrap().into_inner();
    let second = kv.put(put("a", "2")).await.unwrap().into_inner();
    let (one, two) = (first.header.unwrap(), second.header.unwrap());
    assert_eq!((first.version, second.version), (1, 2));
    assert_eq!((two.seq, two.revision), (one.seq + 1, one.revision + 1));
    assert_eq!(one.cluster_id, two.cluster_id);
    assert_ne!(one.cluster_id, 0);

    let read = kv.get(get("a")).await.unwrap().into_inner();
    let value = read.kv.expect("the key is there");
    assert_eq!((value.value.as_slice(), value.version), (b"2".as_slice(), 2));
    assert_eq!((value.create_revision, value.mod_revision), (one.revision, two.revision));
    assert_eq!(read.header.unwrap().seq, two.seq, "a read takes no place in the order");

    let delete = DeleteRequest { key: b"a".to_vec(), ..DeleteRequest::default() };
    assert_eq!(kv.delete(delete.clone()).await.unwrap().into_inner().deleted, 1);
    assert_eq!(kv.delete(delete).await.unwrap().into_inner().deleted, 0);
    assert_eq!(kv.get(get("a")).await.unwrap().into_inner().kv, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_under_a_stale_fence_changes_nothing() {
    let cluster = Cluster::start(3, 2).await;
    let leader = cluster.leader().await;
    let (mut kv, mut elections) = (cluster.kv(leader), cluster.elections(leader));
    let mut stream = SessionStream::connect(&cluster, leader).await;
    let session = stream.open().await;
    let old = stream.campaign(session, 1, "e", "a").await.expect("nobody else campaigns").token;
    let fenced =
        |value: &str, token| PutRequest { fence: Some(Fence { election: "e".to_owned(), token }), ..put("k", value) };
    kv.put(fenced("old", old)).await.unwrap();

    let resign = ResignRequest { election: "e".to_owned(), token: old, session, ..ResignRequest::default() };
    assert!(!elections.resign(resign.clone()).await.unwrap().into_inner().already);
    assert!(elections.resign(resign).await.unwrap().into_inner().already, "resigning is idempotent");
    let vacant = detail(&kv.put(fenced("late", old)).await.unwrap_err()).unwrap();
    assert_eq!((vacant.kind(), vacant.current_token), (Kind::StaleToken, 0));

    let new = stream.campaign(session, 2, "e", "a").await.expect("nobody else campaigns").token;
    assert!(new > old);
    let stale = detail(&kv.put(fenced("late", old)).await.unwrap_err()).unwrap();
    assert_eq!((stale.kind(), stale.outcome(), stale.current_token), (Kind::StaleToken, Outcome::NotApplied, new));
    let unknown = Fence { election: "nobody campaigned here".to_owned(), token: new };
    let refused = kv.put(PutRequest { fence: Some(unknown), ..put("k", "x") }).await.unwrap_err();
    assert_eq!(detail(&refused).unwrap().outcome(), Outcome::NotApplied);
    let value = |reply: palisade_wire::coord::v1::GetReply| reply.kv.unwrap().value;
    assert_eq!(value(kv.get(get("k")).await.unwrap().into_inner()), b"old");

    kv.put(fenced("new", new)).await.unwrap();
    assert_eq!(value(kv.get(get("k")).await.unwrap().into_inner()), b"new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_takes_effect_once() {
    let cluster = Cluster::start(3, 3).await;
    let leader = cluster.leader().await;
    let mut kv = cluster.kv(leader);
    let session = SessionStream::connect(&cluster, leader).await.open().await;
    let id = RequestId { session, serial: 1, acked_below: 1 };
    let request = PutRequest { request_id: Some(id), ..put("k", "v") };

    let first = kv.put(request.clone()).await.unwrap().into_inner();
    kv.put(put("k", "between")).await.unwrap();
    let again = kv.put(request.clone()).await.unwrap().into_inner();
    assert_eq!(again, first, "the same answer, with the place in the order that the write has");
    let value = kv.get(get("k")).await.unwrap().into_inner().kv.unwrap();
    assert_eq!((value.value.as_slice(), value.version), (b"between".as_slice(), 2));

    let other = PutRequest { value: b"other".to_vec(), ..request };
    assert_eq!(detail(&kv.put(other).await.unwrap_err()).unwrap().kind(), Kind::SerialReused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_each_get_their_own_answer() {
    let cluster = Cluster::start(3, 4).await;
    let kv = cluster.kv(cluster.leader().await);
    let writers = (0..64).map(|n: u64| {
        let mut kv = kv.clone();
        async move {
            let key = format!("key-{n}");
            let reply = kv.put(put(&key, &n.to_string())).await.unwrap().into_inner();
            assert_eq!(reply.version, 1);
            let read = kv.get(get(&key)).await.unwrap().into_inner();
            assert_eq!(read.kv.unwrap().value, n.to_string().into_bytes());
            reply.header.unwrap().seq
        }
    });
    let mut seqs = futures_util::future::join_all(writers).await;
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs.len(), 64, "each command has its own place in the order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serializable_read_is_answered_by_any_node_also_without_a_majority() {
    let mut cluster = Cluster::start(3, 9).await;
    let leader = cluster.leader().await;
    let written = cluster.kv(leader).put(put("k", "v")).await.unwrap().into_inner().header.unwrap();
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    let serializable = || GetRequest { serializable: true, ..get("k") };
    let kv = || cluster.kv(follower);
    let seen = cluster.until("the follower to have it", async || {
        let read = kv().get(serializable()).await.ok()?.into_inner(); // it may not have heard of the cluster yet
        read.kv.filter(|_| read.header.is_some_and(|header| header.revision >= written.revision))
    });
    assert_eq!(seen.await.value, b"v");
    for other in (1..=3).filter(|id| *id != follower) {
        cluster.stop_node(other).await;
    }
    let mut kv = cluster.kv(follower);
    assert!(kv.get(get("k")).await.is_err(), "nobody else says that it is still so");
    assert_eq!(kv.get(serializable()).await.unwrap().into_inner().kv.unwrap().value, b"v");
    let read = ReadOp { keys: Some(KeyRange { key: b"k".to_vec(), until: None }), ..ReadOp::default() };
    let range = kv.range(RangeRequest { read: Some(read), serializable: true }).await.unwrap().into_inner();
    assert_eq!(range.result.unwrap().count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_shows_what_was_there_and_its_repetition_says_that_it_does_not_know() {
    let cluster = Cluster::start(1, 10).await;
    let mut kv = cluster.kv(cluster.leader().await);
    let mut stream = SessionStream::connect(&cluster, 1).await;
    let session = stream.open().await;
    let binding = Some(put_request::Binding::Session(session));
    kv.put(PutRequest { binding, ..put("k", "old") }).await.unwrap();
    let request_id = Some(RequestId { session, serial: 1, acked_below: 1 });
    let request = PutRequest { show_previous: true, request_id, ..put("k", "new") };
    let first = kv.put(request.clone()).await.unwrap().into_inner();
    let previous = first.previous.unwrap();
    assert_eq!((first.version, first.not_kept), (2, false));
    assert_eq!(
        (previous.key.as_slice(), previous.value.as_slice(), previous.session),
        (&b"k"[..], &b"old"[..], session)
    );
    let again = kv.put(request).await.unwrap().into_inner();
    assert_eq!((again.version, again.previous, again.not_kept), (0, None, true));
    assert_eq!(again.header.unwrap().seq, first.header.unwrap().seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_and_ranges_and_the_past_through_a_cluster() {
    let cluster = Cluster::start(3, 1).await;
    let mut kv = cluster.kv(cluster.leader().await);
    let op = |key: &str, value: &str| {
        let put = PutOp { key: key.into(), value: Some(value.into()), ..PutOp::default() };
        KeyOp { op: Some(key_op::Op::Put(put)) }
    };
    let range = |revision| {
        let keys = KeyRange { key: b"t/".to_vec(), until: Some(key_range::Until::Prefix(key_range::Prefix {})) };
        RangeRequest { read: Some(ReadOp { keys: Some(keys), revision, ..ReadOp::default() }), serializable: false }
    };
    let absent = KeyCompare {
        keys: Some(KeyRange { key: b"t/a".to_vec(), until: None }),
        relation: key_compare::Relation::Equal.into(),
        operand: Some(key_compare::Operand::Version(0)),
    };
    let txn = Txn {
        compare: vec![absent],
        success: vec![op("t/a", "1"), op("t/b", "1")],
        failure: vec![op("t/a", "2")],
        ..Txn::default()
    };
    let request = TxnRequest { txn: Some(txn), request_id: None };

    let first = kv.txn(request.clone()).await.unwrap().into_inner();
    let second = kv.txn(request).await.unwrap().into_inner();
    let succeeded = |reply: &TxnReply| reply.result.as_ref().map(|it| (it.succeeded, it.results.len()));
    assert_eq!((succeeded(&first), succeeded(&second)), (Some((true, 2)), Some((false, 1))));
    let (one, two) = (first.header.unwrap().revision, second.header.unwrap().revision);
    assert_eq!(two, one + 1, "all writes of a transaction have one revision");

    let values = |reply: RangeReply| {
        let result = reply.result.unwrap();
        result.kvs.into_iter().map(|kv| (kv.key, kv.value, kv.mod_revision)).collect::<Vec<_>>()
    };
    let key = |key: &str, value: &str, revision| (key.as_bytes().to_vec(), value.as_bytes().to_vec(), revision);
    let now = kv.range(range(0)).await.unwrap().into_inner();
    assert_eq!(values(now), [key("t/a", "2", two), key("t/b", "1", one)]);
    let past = kv.range(range(one)).await.unwrap().into_inner();
    assert_eq!(values(past), [key("t/a", "1", one), key("t/b", "1", one)]);

    kv.compact(CompactRequest { revision: two, request_id: None }).await.unwrap();
    let refused = detail(&kv.range(range(one)).await.unwrap_err()).unwrap();
    assert_eq!((refused.kind(), refused.outcome()), (Kind::Compacted, Outcome::NotApplied));
    let ahead = detail(&kv.range(range(two + 9)).await.unwrap_err()).unwrap();
    assert_eq!(ahead.kind(), Kind::FutureRevision);
}
