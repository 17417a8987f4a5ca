//! Keys as a Rust client has them: reads, transactions and watches, also while the store leader goes.

use std::time::Duration;

use palisade_client::{
    Binding, Client, ClientConfig, Compare, DeleteOptions, Direction, ErrorKind, KeyOp, KeyOpResult, Keys,
    OnDisconnect, PutOptions, RangeOptions, Ranged, Reading, Relation, SessionOptions, SortBy, Txn, WatchOptions,
    Watched, WatchedKind, Watcher,
};

use crate::cluster::{Cluster, name, soon};

fn client(cluster: &Cluster) -> Client {
    let endpoints = cluster.initial.iter().map(|(id, _)| name(*id)).collect();
    Client::new(ClientConfig { endpoints, request_timeout: Duration::from_secs(20) }, cluster.world.clone()).unwrap()
}

async fn put(client: &Client, key: &str, value: &str) -> u64 {
    client.put(PutOptions::new(key, value)).await.unwrap().header.revision
}

async fn next(cluster: &Cluster, watcher: &mut Watcher) -> Watched {
    soon(&cluster.world, "news", watcher.next()).await.unwrap()
}

/// The values that were put, and how often the watcher had to come back, until so many have come.
async fn values(cluster: &Cluster, watcher: &mut Watcher, count: usize) -> (Vec<String>, usize) {
    let (mut values, mut resumed, mut last) = (Vec::new(), 0, 0);
    while values.len() < count {
        match next(cluster, watcher).await.kind {
            WatchedKind::Changed { revision, changes } => {
                assert!(revision > last, "{revision} after {last}");
                last = revision;
                values.extend(changes.into_iter().map(|it| String::from_utf8(it.kv.unwrap().value).unwrap()));
            }
            WatchedKind::Resumed { .. } => resumed += 1,
            WatchedKind::Started { .. } | WatchedKind::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    (values, resumed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_goes_on_by_itself_while_store_leaders_come_and_go() {
    let mut cluster = Cluster::start(3, 81).await;
    let leader = cluster.leader().await;
    let client = client(&cluster);
    let mut watcher = client.watch(WatchOptions::new(Keys::prefix("n/")));
    assert!(matches!(next(&cluster, &mut watcher).await.kind, WatchedKind::Started { .. }));
    let session = client
        .open_session(SessionOptions {
            ttl: Duration::from_secs(60),
            on_disconnect: OnDisconnect::KeepUntilTtl,
            given_id: None,
        })
        .await
        .unwrap();
    let write = async |from: usize, to: usize| {
        for n in from..to {
            let put = PutOptions { session: Some(&session), ..PutOptions::new(format!("n/{}", n % 3), n.to_string()) };
            client.put(put).await.unwrap();
            client.put(PutOptions { session: Some(&session), ..PutOptions::new("other", "x") }).await.unwrap();
        }
    };
    write(0, 10).await;
    let (first, resumed) = values(&cluster, &mut watcher, 10).await;
    assert_eq!(resumed, 0);
    write(10, 15).await;
    cluster.stop_node(leader).await;
    write(15, 20).await;
    let (second, resumed) = values(&cluster, &mut watcher, 10).await;
    assert!(resumed > 0, "its store leader went");
    let all: Vec<_> = first.into_iter().chain(second).collect();
    assert_eq!(all, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_from_before_a_compaction_is_told_of_the_gap_and_goes_on() {
    let cluster = Cluster::start(1, 82).await;
    cluster.leader().await;
    let client = client(&cluster);
    let first = put(&client, "k", "0").await;
    for n in 1..4 {
        put(&client, "k", &n.to_string()).await;
    }
    client.compact(first + 2, None).await.unwrap();
    let mut watcher = client.watch(WatchOptions { from: Some(first), ..WatchOptions::new("k") });
    assert_eq!(next(&cluster, &mut watcher).await.kind, WatchedKind::Started { from: first });
    assert_eq!(next(&cluster, &mut watcher).await.kind, WatchedKind::Gap { from: first, to: first + 2 });
    assert_eq!(next(&cluster, &mut watcher).await.kind, WatchedKind::Resumed { from: first + 2 });
    assert_eq!(values(&cluster, &mut watcher, 2).await.0, ["2", "3"]);

    let again = client.compact(first + 2, None).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::Compacted);
    let past = client.range(RangeOptions::new("k").at(first)).await.unwrap_err();
    assert_eq!((past.kind, past.limit.as_str()), (ErrorKind::Compacted, format!("{} or later", first + 2).as_str()));
    assert_eq!(client.range(RangeOptions::new("k").at(first + 99)).await.unwrap_err().kind, ErrorKind::FutureRevision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_is_not_read_holds_up_neither_its_client_nor_other_watchers() {
    let cluster = Cluster::start(1, 84).await;
    cluster.leader().await;
    let client = client(&cluster);
    let (mut unread, mut read) = (client.watch(WatchOptions::new(Keys::all())), client.watch(WatchOptions::new("39")));
    for watcher in [&mut unread, &mut read] {
        assert!(matches!(next(&cluster, watcher).await.kind, WatchedKind::Started { .. }));
    }
    // Several times what a connection takes.
    let large = "v".repeat(512 << 10);
    for n in 0..40 {
        put(&client, &n.to_string(), &large).await;
    }
    assert_eq!(values(&cluster, &mut read, 1).await.0, [large.as_str()]);
    let (all, resumed) = values(&cluster, &mut unread, 40).await;
    assert_eq!((all.len(), resumed), (40, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_watchers_of_one_client_than_a_connection_carries_all_hear() {
    let cluster = Cluster::start(1, 85).await;
    cluster.leader().await;
    let client = client(&cluster);
    let mut watchers: Vec<_> = (0..250).map(|_| client.watch(WatchOptions::new("k"))).collect();
    for watcher in &mut watchers {
        assert!(matches!(next(&cluster, watcher).await.kind, WatchedKind::Started { .. }));
    }
    put(&client, "k", "v").await;
    for watcher in &mut watchers {
        assert_eq!(values(&cluster, watcher, 1).await.0, ["v"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_and_transactions_say_what_was_found_and_done() {
    let cluster = Cluster::start(1, 83).await;
    cluster.leader().await;
    let client = client(&cluster);
    for (key, value) in [("a/1", "x"), ("a/2", "y"), ("a/3", "z"), ("b", "w")] {
        put(&client, key, value).await;
    }
    let then = put(&client, "a/1", "new").await;
    let keys = |found: &palisade_client::Found| {
        found.kvs.iter().map(|kv| String::from_utf8(kv.key.clone()).unwrap()).collect::<Vec<_>>()
    };
    let newest = RangeOptions::new(Keys::prefix("a/")).sort(SortBy::ModRevision, Direction::Descending).limit(2);
    let newest = client.range(newest).await.unwrap().found;
    assert_eq!((keys(&newest), newest.count, newest.more), (vec!["a/1".to_owned(), "a/3".to_owned()], 3, true));
    let before = client.range(RangeOptions::new("a/1").at(then - 1)).await.unwrap().found;
    assert_eq!(before.kvs[0].value, b"x");
    let counted =
        client.range(RangeOptions::new(Keys::From(b"a/3".to_vec())).count_only().serializable()).await.unwrap();
    assert_eq!((counted.found.kvs.len(), counted.found.count), (0, 2));
    let seen = client.get_as(b"a/1".to_vec(), Reading::Serializable).await.unwrap();
    assert_eq!(
        seen.kv.map(|kv| kv.value).as_deref(),
        Some(&b"new"[..]),
        "not from before what this client has written"
    );

    let options =
        SessionOptions { ttl: Duration::from_secs(60), on_disconnect: OnDisconnect::KeepUntilTtl, given_id: None };
    let session = client.open_session(options).await.unwrap();
    let take = |who: &str| {
        Txn::new()
            .when(Compare::version("lock", Relation::Equal, 0))
            .then(KeyOp::put("lock", who))
            .then(KeyOp::delete(Keys::prefix("a/")))
            .otherwise(KeyOp::read(RangeOptions::new("lock")))
    };
    let first = client.txn(take("one"), Some(&session)).await.unwrap();
    let deleted = KeyOpResult::Deleted { deleted: 3, previous: vec![] };
    assert_eq!((first.succeeded, &first.results[1]), (true, &deleted));
    let second = client.txn(take("two"), Some(&session)).await.unwrap();
    let [KeyOpResult::Read(found)] = &second.results[..] else { panic!("{second:?}") };
    assert_eq!((second.succeeded, found.kvs[0].value.as_slice()), (false, &b"one"[..]));

    // A key that is bound to a session goes with it.
    let bound = PutOptions { binding: Binding::To(session.id()), ..PutOptions::new("bound", "1") };
    client.put(PutOptions { show_previous: true, ..bound }).await.unwrap();
    let kept = PutOptions { value: None, binding: Binding::Keep, show_previous: true, ..PutOptions::new("bound", "") };
    let kept = client.put(kept).await.unwrap();
    assert_eq!((kept.version, kept.previous.and_then(|kv| kv.session)), (Some(2), Some(session.id())));
    session.close().await.unwrap();
    assert_eq!(client.get(b"bound".to_vec()).await.unwrap().kv, None);
    let deleted = DeleteOptions { show_previous: true, ..DeleteOptions::new(Keys::all()) };
    let deleted = client.delete(deleted).await.unwrap();
    assert_eq!((deleted.deleted, deleted.previous.len()), (Some(2), 2), "the lock and b");
}

fn names(ranged: &Ranged) -> Vec<String> {
    ranged.found.kvs.iter().map(|kv| String::from_utf8(kv.key.clone()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_one_answer_cannot_hold_goes_on_at_its_own_revision() {
    let cluster = Cluster::start(3, 88).await;
    cluster.leader().await;
    let client = client(&cluster);
    let large = vec![b'x'; 900 << 10];
    for n in [3, 1, 5, 2, 4] {
        client.put(PutOptions::new(format!("p/{n}"), [&[b'0' + 9 - n], &large[..]].concat())).await.unwrap();
    }
    put(&client, "q", "not meant").await;
    let options = RangeOptions::new(Keys::prefix("p/"));
    let first = client.range(options.clone()).await.unwrap();
    assert_eq!((names(&first), first.found.more, first.found.count), (vec!["p/1".into(), "p/2".into()], true, 5));

    // What is written now is not of that moment.
    put(&client, "p/25", "later").await;
    client.delete(DeleteOptions::new("p/4")).await.unwrap();
    let rest = options.after(&first).expect("more is left");
    let second = client.range(rest.clone()).await.unwrap();
    assert_eq!((names(&second), second.found.more), (vec!["p/3".into(), "p/4".into()], true));
    let rest = rest.after(&second).expect("more is left");
    let third = client.range(rest.clone()).await.unwrap();
    assert_eq!((names(&third), third.found.more, rest.after(&third)), (vec!["p/5".into()], false, None));

    let all = async |options: RangeOptions| names(&client.range_all(options).await.unwrap()).join(" ");
    let then = options.clone().at(first.header.revision);
    assert_eq!(all(options.clone()).await, "p/1 p/2 p/25 p/3 p/5");
    assert_eq!(all(then.clone()).await, "p/1 p/2 p/3 p/4 p/5");
    assert_eq!(all(then.clone().sort(SortBy::Key, Direction::Descending)).await, "p/5 p/4 p/3 p/2 p/1");
    let four = client.range_all(then.clone().limit(4)).await.unwrap();
    assert_eq!((names(&four).join(" "), four.found.more, four.found.count), ("p/1 p/2 p/3 p/4".into(), true, 5));
    // In other orders, too.
    let newest = then.clone().sort(SortBy::ModRevision, Direction::Descending);
    assert_eq!(all(newest.clone()).await, "p/4 p/2 p/5 p/1 p/3");
    let newest = client.range_all(newest.limit(3)).await.unwrap();
    assert_eq!((names(&newest).join(" "), newest.found.more), ("p/4 p/2 p/5".into(), true));
    assert_eq!(all(then.sort(SortBy::Value, Direction::Ascending)).await, "p/5 p/4 p/3 p/2 p/1");
}
