//! Bad requests: each is told field, value and limit, and takes no place in the order.

use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::{
    AttachSession, Campaign, DeleteRequest, ErrorDetail, Fence, GetRequest, Header, KeepAlive, LeaderRequest,
    LeaderValue, ObserveRequest, OnDisconnect, OpenSession, ProclaimRequest, PutRequest, RequestId, ResignRequest,
    client_frame, on_disconnect, server_frame,
};
use palisade_wire::status::detail;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Status;

use crate::cluster::{Cluster, name, soon};
use crate::session::SessionStream;

const NAME: &str = "1 to 255 bytes of printable UTF-8";
const TOKEN: &str = "1 to 9223372036854775807";
const KEY: &str = "1 to 4096 bytes";

fn put() -> PutRequest {
    PutRequest { key: b"k".to_vec(), value: b"v".to_vec(), ..PutRequest::default() }
}

fn fenced(election: &str, token: u64) -> PutRequest {
    PutRequest { fence: Some(Fence { election: election.to_owned(), token }), ..put() }
}

fn told(status: Status) -> (String, String, String) {
    let ErrorDetail { field, value, limit, .. } = invalid(detail(&status).expect("our own refusal"));
    (field, value, limit)
}

fn invalid(error: ErrorDetail) -> ErrorDetail {
    assert_eq!((error.kind(), error.outcome()), (Kind::InvalidArgument, Outcome::NotApplied), "{error:?}");
    error
}

fn row(field: &str, value: &str, limit: &str) -> (String, String, String) {
    (field.to_owned(), value.to_owned(), limit.to_owned())
}

async fn header(cluster: &Cluster, node: u64) -> Header {
    cluster.status(node).await.unwrap().header.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_request_names_field_value_and_limit_and_changes_nothing() {
    let cluster = Cluster::start(1, 31).await;
    let leader = cluster.leader().await;
    let (mut kv, mut elections) = (cluster.kv(leader), cluster.elections(leader));
    let before = header(&cluster, leader).await;

    let long = "x".repeat(256);
    let bit_63 = (1u64 << 63).to_string();
    let key = |key: Vec<u8>| PutRequest { key, ..put() };
    let id = |session, serial, acked_below| PutRequest {
        request_id: Some(RequestId { session, serial, acked_below }),
        ..put()
    };
    for (request, expected) in [
        (key(vec![]), row("key", "0 bytes", KEY)),
        (key(vec![7; 4_097]), row("key", "4097 bytes", KEY)),
        (PutRequest { value: vec![7; (1 << 20) + 1], ..put() }, row("value", "1048577 bytes", "0 to 1048576 bytes")),
        (fenced("", 1), row("fence.election", "0 bytes", NAME)),
        (fenced(&long, 1), row("fence.election", "256 bytes", NAME)),
        (fenced("a\nb", 1), row("fence.election", "a\\nb", NAME)),
        (fenced("e", 0), row("fence.token", "0", TOKEN)),
        (fenced("e", 1 << 63), row("fence.token", &bit_63, TOKEN)),
        (id(0, 1, 1), row("request_id.session", "0", "the id of a session, from 1")),
        (id(1, 0, 0), row("request_id.serial", "0", "1 to 18446744073709551614")),
    ] {
        assert_eq!(told(kv.put(request).await.unwrap_err()), expected);
    }
    let large = PutRequest { value: vec![7; (3 << 19) + 1], ..put() };
    let (field, value, limit) = told(kv.put(large).await.unwrap_err());
    assert_eq!((field.as_str(), limit.as_str()), ("request", "at most 1572864 bytes encoded"));
    assert!(value.ends_with(" bytes"), "{value}");

    let empty = DeleteRequest::default();
    assert_eq!(told(kv.delete(empty).await.unwrap_err()), row("key", "0 bytes", KEY));
    let read = GetRequest { key: vec![7; 5_000], ..GetRequest::default() };
    assert_eq!(told(kv.get(read).await.unwrap_err()), row("key", "5000 bytes", KEY));

    let observe = elections.observe(ObserveRequest::default()).await;
    assert_eq!(told(observe.expect_err("refused")), row("election", "0 bytes", NAME));
    let asked = elections.leader(LeaderRequest { election: "\u{7}".to_owned(), serializable: false }).await;
    assert_eq!(told(asked.unwrap_err()), row("election", "\\u{7}", NAME));
    let resign = |token| ResignRequest { election: "e".to_owned(), token, ..ResignRequest::default() };
    assert_eq!(told(elections.resign(resign(0)).await.unwrap_err()), row("token", "0", TOKEN));
    assert_eq!(told(elections.resign(resign(1 << 63)).await.unwrap_err()), row("token", &bit_63, TOKEN));
    let value = LeaderValue { data: vec![7; 65_536], ..LeaderValue::default() };
    let proclaim = ProclaimRequest { election: "e".to_owned(), token: 1, value: Some(value), request_id: None };
    let (field, _, limit) = told(elections.proclaim(proclaim).await.unwrap_err());
    assert_eq!((field.as_str(), limit.as_str()), ("value", "at most 65536 bytes encoded"));

    assert_eq!(header(&cluster, leader).await, before, "nothing of this took a place in the order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_frame_names_field_value_and_limit_and_the_stream_goes_on() {
    let cluster = Cluster::start(1, 32).await;
    let leader = cluster.leader().await;
    let mut stream = SessionStream::connect(&cluster, leader).await;
    let session = stream.open().await;
    let before = header(&cluster, leader).await;

    let open = |ttl_ms| client_frame::Body::Open(OpenSession { ttl_ms, ..OpenSession::default() });
    let release = |ms| {
        let on_disconnect = OnDisconnect { kind: Some(on_disconnect::Kind::ReleaseAfterMs(ms)) };
        client_frame::Body::Open(OpenSession { ttl_ms: 1_000, on_disconnect: Some(on_disconnect), session_id: 0 })
    };
    let campaign = |serial, election: &str, candidate: &str| {
        client_frame::Body::Campaign(Campaign {
            session,
            serial,
            election: election.to_owned(),
            candidate_id: candidate.to_owned(),
            value: None,
            priority: 0,
        })
    };
    let ttl = "200 to 600000 ms";
    for (frame, expected) in [
        (open(0), row("ttl_ms", "0 ms", ttl)),
        (open(199), row("ttl_ms", "199 ms", ttl)),
        (open(600_001), row("ttl_ms", "600001 ms", ttl)),
        (release(u64::MAX), row("on_disconnect.release_after_ms", &format!("{} ms", u64::MAX), "0 to 600000 ms")),
        (campaign(0, "e", "a"), row("serial", "0", "1 to 18446744073709551614")),
        (campaign(1, "", "a"), row("election", "0 bytes", NAME)),
        (campaign(1, "e", ""), row("candidate_id", "0 bytes", NAME)),
        (campaign(1, "e", "\u{2028}"), row("candidate_id", "\\u{2028}", NAME)),
        (
            client_frame::Body::KeepAlive(KeepAlive { sessions: vec![session; 1_025] }),
            row("sessions", "1025 sessions", "1 to 1024 sessions"),
        ),
    ] {
        match stream.call(frame).await {
            server_frame::Body::Refused(refused) => {
                let ErrorDetail { field, value, limit, .. } = invalid(refused.error.unwrap());
                assert_eq!((field, value, limit), expected);
            }
            other => panic!("expected a refusal of {expected:?}, got {other:?}"),
        }
    }
    assert_eq!(header(&cluster, leader).await, before, "nothing of this took a place in the order");

    // A session that has ended, or never was, is another matter: only the state machine can tell.
    match stream.call(client_frame::Body::Attach(AttachSession { session: session + 1 })).await {
        server_frame::Body::Refused(refused) => {
            let error = refused.error.unwrap();
            assert_eq!((error.kind(), error.outcome()), (Kind::SessionEnded, Outcome::NotApplied));
            assert_eq!((error.field.as_str(), error.value), ("session", (session + 1).to_string()));
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(stream.campaign(session, 1, "e", "a").await.is_some(), "the stream goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_election_that_nobody_campaigned_in_has_no_leader_and_cannot_be_resigned() {
    let cluster = Cluster::start(1, 33).await;
    let mut elections = cluster.elections(cluster.leader().await);
    let asked =
        elections.leader(LeaderRequest { election: "e".to_owned(), serializable: false }).await.unwrap().into_inner();
    assert_eq!(asked.leader, None);
    let resign = ResignRequest { election: "e".to_owned(), token: 1, ..ResignRequest::default() };
    let refused = detail(&elections.resign(resign).await.unwrap_err()).unwrap();
    assert_eq!((refused.kind(), refused.value.as_str()), (Kind::ElectionNotFound, "e"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_bytes_close_that_connection_and_no_other() {
    let cluster = Cluster::start(1, 34).await;
    let leader = cluster.leader().await;
    let mut kv = cluster.kv(leader);
    kv.put(put()).await.unwrap();
    for garbage in
        [&b"\x00\xff\x13\x37 this is no HTTP/2 at all\r\n\r\n"[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &[0; 100_000]]
    {
        let mut socket = cluster.world.connect(&name(leader)).await.unwrap();
        let _ = socket.write_all(garbage).await; // it may be closed before all is written
        let mut answer = Vec::new();
        // Closed or reset; it may be told why.
        let _ = soon(&cluster.world, "the end of the connection", socket.read_to_end(&mut answer)).await;
    }
    kv.put(put()).await.expect("the other connection goes on");
    assert!(cluster.status(leader).await.unwrap().healthy);
}
