//! What a watcher of keys sees.

use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::watch_service_client::WatchServiceClient;
use palisade_wire::coord::v1::{
    CompactRequest, DeleteRequest, KeyEvent, KeyOp, KeyRange, PutOp, PutRequest, Txn, TxnRequest, WatchReply,
    WatchRequest, key_event, key_op, key_range,
};
use palisade_wire::status::detail;
use tonic::Streaming;

use crate::cluster::{Cluster, itself, soon};

fn prefix(prefix: &str) -> KeyRange {
    KeyRange { key: prefix.into(), until: Some(key_range::Until::Prefix(key_range::Prefix {})) }
}

fn all() -> WatchRequest {
    WatchRequest { keys: Some(prefix("")), ..WatchRequest::default() }
}

fn put(key: &str, value: &[u8]) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn txn(keys: impl IntoIterator<Item = String>, value: &[u8]) -> TxnRequest {
    let put = |key: String| {
        let put = PutOp { key: key.into_bytes(), value: Some(value.to_vec()), ..PutOp::default() };
        KeyOp { op: Some(key_op::Op::Put(put)) }
    };
    let txn = Txn { success: keys.into_iter().map(put).collect(), ..Txn::default() };
    TxnRequest { txn: Some(txn), request_id: None }
}

/// A stream of a node, which has said where it begins.
async fn watch(cluster: &Cluster, node: u64, request: WatchRequest) -> Streaming<WatchReply> {
    // A new store leader may say for a moment that it is not sure yet.
    let accepted = cluster.until("a watch", async || {
        let watched = WatchServiceClient::new(cluster.channel(node)).watch(request.clone()).await;
        watched.inspect_err(|refused| assert!(detail(refused).is_some(), "{refused}")).ok()
    });
    let mut stream = accepted.await.into_inner();
    let created = next(cluster, &mut stream).await;
    assert!(created.events.is_empty() && created.gap.is_none(), "{created:?}");
    if request.from_revision != 0 {
        assert_eq!(created.resume_revision, request.from_revision);
    }
    stream
}

async fn next(cluster: &Cluster, stream: &mut Streaming<WatchReply>) -> WatchReply {
    soon(&cluster.world, "a reply", stream.message()).await.unwrap().expect("the stream goes on")
}

/// Revision, kind, key and value, of as many events.
async fn events(
    cluster: &Cluster,
    stream: &mut Streaming<WatchReply>,
    count: usize,
) -> Vec<(u64, bool, String, String)> {
    let mut told = Vec::new();
    while told.len() < count {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        told.extend(next(cluster, stream).await.events.into_iter().map(|event| {
            let is_put = event.kind() == key_event::Kind::Put;
            let kv = event.kv.unwrap();
            (kv.mod_revision, is_put, text(kv.key), text(kv.value))
        }));
    }
    assert_eq!(told.len(), count, "{told:?}");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_the_past_and_then_every_change_whole_revisions_in_order() {
    let cluster = Cluster::start(3, 71).await;
    let leader = cluster.leader().await;
    let mut kv = cluster.kv(leader);
    let first = kv.put(put("a", b"1")).await.unwrap().into_inner().header.unwrap().revision;
    kv.put(put("other", b"x")).await.unwrap();
    kv.txn(txn(["a".to_owned(), "b".to_owned()], b"2")).await.unwrap();
    let keys = KeyRange { key: b"a".to_vec(), until: Some(key_range::Until::To(b"c".to_vec())) };
    let past = WatchRequest { keys: Some(keys.clone()), from_revision: first, show_previous: true, ..all() };
    let mut past = watch(&cluster, leader, past).await;
    let mut present = watch(&cluster, leader, WatchRequest { keys: Some(keys), no_puts: true, ..all() }).await;

    let told = events(&cluster, &mut past, 3).await;
    let event = |at: u64, key: &str, value: &str| (first + at, true, key.to_owned(), value.to_owned());
    assert_eq!(told, [event(0, "a", "1"), event(2, "a", "2"), event(2, "b", "2")]);

    kv.put(put("b", b"3")).await.unwrap();
    let delete = DeleteRequest { keys: Some(prefix("")), show_previous: true, ..DeleteRequest::default() };
    let deleted = kv.delete(delete).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, deleted.previous.len(), deleted.not_kept), (3, 3, false));
    assert_eq!(events(&cluster, &mut past, 1).await, [event(3, "b", "3")]);
    let last = next(&cluster, &mut past).await;
    assert_eq!((last.resume_revision, last.fragment), (first + 5, false));
    let [a, b] = <[KeyEvent; 2]>::try_from(last.events).unwrap();
    for (event, value) in [(&a, "2"), (&b, "3")] {
        assert_eq!(event.kind(), key_event::Kind::Delete);
        assert_eq!(event.kv.as_ref().map(|kv| (kv.mod_revision, kv.version)), Some((first + 4, 0)));
        assert_eq!(event.previous.as_ref().map(|kv| kv.value.as_slice()), Some(value.as_bytes()));
    }
    let gone = events(&cluster, &mut present, 2).await;
    assert_eq!(gone.iter().map(|it| (it.1, it.2.as_str())).collect::<Vec<_>>(), [(false, "a"), (false, "b")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_is_larger_than_a_reply_comes_in_parts_that_say_so() {
    let cluster = Cluster::start(1, 72).await;
    let mut kv = cluster.kv(1);
    cluster.leader().await;
    for batch in 0..3 {
        kv.txn(txn((0..128).map(|key| format!("{batch}/{key:03}")), &[b'v'; 8 << 10])).await.unwrap();
    }
    let mut stream = watch(&cluster, 1, WatchRequest { show_previous: true, no_puts: true, ..all() }).await;
    let delete = DeleteRequest { keys: Some(prefix("")), ..DeleteRequest::default() };
    let revision = kv.delete(delete).await.unwrap().into_inner().header.unwrap().revision;
    let (mut count, mut parts) = (0, 0);
    loop {
        let reply = next(&cluster, &mut stream).await;
        count += reply.events.len();
        parts += 1;
        if !reply.fragment {
            assert_eq!(reply.resume_revision, revision + 1);
            break;
        }
        assert_eq!(reply.resume_revision, revision, "whoever resumes gets all of it again");
    }
    assert!(count == 384 && (3..=5).contains(&parts), "{count} events in {parts} parts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_loses_nothing_and_holds_up_nobody() {
    let cluster = Cluster::start(1, 73).await;
    cluster.leader().await;
    let mut kv = cluster.kv(1);
    let mut slow = watch(&cluster, 1, all()).await;
    let mut quick = watch(&cluster, 1, all()).await;
    // Several times what its connection takes before it stops.
    let value = vec![b'v'; 512 << 10];
    for n in 0..40 {
        kv.put(put(&n.to_string(), &value)).await.unwrap();
        assert_eq!(events(&cluster, &mut quick, 1).await[0].2, n.to_string());
    }
    let told: Vec<_> = events(&cluster, &mut slow, 40).await.into_iter().map(|it| it.2).collect();
    assert_eq!(told, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_compacted_is_a_gap_that_names_where_to_go_on() {
    let cluster = Cluster::start(1, 74).await;
    cluster.leader().await;
    let mut kv = cluster.kv(1);
    let mut revision = 0;
    for n in 0..5 {
        revision = kv.put(put("k", &[n])).await.unwrap().into_inner().header.unwrap().revision;
    }
    kv.compact(CompactRequest { revision: revision - 1, request_id: None }).await.unwrap();
    let from = |from_revision| WatchRequest { from_revision, ..all() };
    let mut stream = watch(&cluster, 1, from(revision - 2)).await;
    let gap = next(&cluster, &mut stream).await;
    assert_eq!((gap.resume_revision, gap.gap.unwrap().first_revision), (revision - 2, revision - 1));
    assert!(soon(&cluster.world, "the end", stream.message()).await.unwrap().is_none());
    let mut stream = watch(&cluster, 1, from(revision - 1)).await;
    let told: Vec<_> = events(&cluster, &mut stream, 2).await.into_iter().map(|it| it.0).collect();
    assert_eq!(told, [revision - 1, revision]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_watcher_hears_how_far_it_has_got() {
    let cluster = Cluster::start(1, 75).await;
    cluster.leader().await;
    let mut kv = cluster.kv(1);
    let keys = KeyRange { key: b"mine".to_vec(), until: None };
    let request = WatchRequest { keys: Some(keys), progress_interval_ms: 100, ..all() };
    let mut stream = watch(&cluster, 1, request).await;
    let revision = kv.put(put("other", b"")).await.unwrap().into_inner().header.unwrap().revision;
    loop {
        let progress = next(&cluster, &mut stream).await;
        assert!(progress.events.is_empty() && progress.resume_revision <= revision + 1, "{progress:?}");
        if progress.resume_revision == revision + 1 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_goes_on_at_the_next_store_leader_from_where_it_was() {
    let mut cluster = Cluster::start(3, 76).await;
    let leader = cluster.leader().await;
    for other in (1..=3).filter(|id| *id != leader) {
        let refused = WatchServiceClient::new(cluster.channel(other)).watch(itself(all())).await.unwrap_err();
        let refused = detail(&refused).expect("it says what is known");
        assert!(matches!(refused.kind(), Kind::NotStoreLeader | Kind::NoStoreLeader), "{refused:?}");
        assert_eq!(refused.outcome(), Outcome::NotApplied);
    }
    let mut stream = watch(&cluster, leader, all()).await;
    let mut resume = 0;
    for n in 0..3 {
        cluster.kv(leader).put(put("k", &[b'0' + n])).await.unwrap();
        resume = next(&cluster, &mut stream).await.resume_revision;
    }
    // Told to nobody, because nobody reads any more.
    let last = cluster.kv(leader).put(put("k", b"3")).await.unwrap().into_inner().header.unwrap().revision;
    assert_eq!(last, resume);
    drop(stream);
    let mut idle = watch(&cluster, leader, WatchRequest { keys: Some(prefix("nobody")), ..all() }).await;
    let world = cluster.world.clone();
    cluster.stop_node(leader).await;
    let ended = soon(&world, "the end of the stream", idle.message()).await;
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");

    let next_leader = cluster.leader().await;
    let mut stream = watch(&cluster, next_leader, WatchRequest { from_revision: resume, ..all() }).await;
    cluster.kv(next_leader).put(put("k", b"4")).await.unwrap();
    let told: Vec<_> = events(&cluster, &mut stream, 2).await.into_iter().map(|it| (it.0, it.3)).collect();
    assert_eq!(told, [(resume, "3".to_owned()), (resume + 1, "4".to_owned())]);
}
