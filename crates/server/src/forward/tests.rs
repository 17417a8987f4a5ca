//! A node that forwards, in front of a store leader that is played by hand, over real connections.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use palisade_replica::{Peer, ReplicaStatus, Role};
use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::{GetReply, GetRequest, KeyValue};
use palisade_wire::{metadata, status};
use palisade_world::{Task, World, grpc};
use prost::Message;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Forwarder, Forwarding};
use crate::connections::{Line, MAX_CONNECTIONS, bounded};

const BOUND: Duration = Duration::from_secs(30);

/// Of one message of an endless stream.
const PIECE: usize = 64 << 10;

/// The store leader: a put is taken and never answered, a get is answered, a watch tells for ever.
#[derive(Clone, Default)]
struct Leader {
    puts: Arc<watch::Sender<usize>>,
    pieces: Arc<AtomicUsize>,
    heard: Arc<Mutex<HeaderMap>>,
}

impl NamedService for Leader {
    const NAME: &'static str = "palisade.coord.v1.WatchService";
}

impl Service<Request<Body>> for Leader {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let leader = self.clone();
        Box::pin(async move {
            *leader.heard.lock().unwrap() = request.headers().clone();
            let body = match request.uri().path().rsplit('/').next() {
                Some("Put") => {
                    leader.puts.send_modify(|count| *count += 1);
                    pending().await
                }
                Some("Watch") => Body::new(Endless(leader.pieces)),
                _ => Body::new(Once(Some(piece(1)))),
            };
            let answer = Response::builder().header("content-type", "application/grpc").header("x-leader", "said so");
            Ok(answer.body(body).unwrap())
        })
    }
}

/// An answer of this size, as gRPC frames it.
fn piece(size: usize) -> Bytes {
    let message = GetReply { kv: Some(KeyValue { value: vec![7; size], ..KeyValue::default() }), header: None };
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

struct Endless(Arc<AtomicUsize>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece(PIECE)))))
    }
}

/// One message, and then the status.
struct Once(Option<Bytes>);

impl http_body::Body for Once {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let ok = || HeaderMap::from_iter([(Status::GRPC_STATUS, http::HeaderValue::from_static("0"))]);
        Poll::Ready(match self.0.take() {
            Some(piece) if !piece.is_empty() => {
                self.0 = Some(Bytes::new());
                Some(Ok(Frame::data(piece)))
            }
            Some(_) => Some(Ok(Frame::trailers(ok()))),
            None => None,
        })
    }
}

/// A client, the node that it asks, and the store leader behind that.
struct Play {
    leader: Leader,
    /// Cuts the connections of the store leader.
    line: watch::Sender<Line>,
    client: tonic::client::Grpc<Channel>,
    world: World,
    _tasks: [Task<()>; 2],
}

impl Play {
    async fn start() -> Play {
        let world = World::real();
        let leader = Leader::default();
        let (line, cut) = watch::channel(Line::Open);
        let listener = world.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().to_string();
        let serving = grpc::server(&world).add_service(leader.clone());
        let connections = bounded(listener, MAX_CONNECTIONS, Arc::default(), cut, world.clone());
        let leading = world.spawn("leader", async move {
            let _ = serving.serve_with_incoming(connections).await;
        });

        let status = ReplicaStatus {
            role: Role::Follower,
            leadership: None,
            store_leader: Some(Peer { node_id: 2, address, store_id: 1 }),
            term: 1,
            applied: 0,
            committed: 0,
            members: Vec::new(),
            ids: palisade_replica::MemberIds::default(),
            fatal: None,
        };
        let (status, open) = (watch::Sender::new(status).subscribe(), watch::Sender::new(Line::Open).subscribe());
        let forwarder = Forwarder::new(1, status, open, &world);
        // If it answered by itself, the test would wait for ever.
        let here = Forwarding::new(Leader::default(), &forwarder);
        let listener = world.bind("127.0.0.1:0").await.unwrap();
        let channel = grpc::channel(&world, &listener.local_addr().to_string()).unwrap();
        let serving = grpc::server(&world).add_service(here);
        let following = world.spawn("follower", async move {
            let _ = serving.serve_with_incoming(grpc::incoming(listener)).await;
        });
        let client = tonic::client::Grpc::new(channel);
        Play { leader, line, client, world, _tasks: [leading, following] }
    }

    async fn call(&self, method: &str) -> Result<tonic::Response<GetReply>, Status> {
        self.call_with(method, tonic::Request::new(GetRequest::default())).await
    }

    async fn call_with(
        &self,
        method: &str,
        request: tonic::Request<GetRequest>,
    ) -> Result<tonic::Response<GetReply>, Status> {
        let mut client = self.client.clone();
        client.ready().await.unwrap();
        let codec: ProstCodec<GetRequest, GetReply> = ProstCodec::default();
        let asked = client.unary(request, path(method), codec);
        self.world.timeout(BOUND, asked).await.expect("an answer in time")
    }

    async fn watch(&self) -> Streaming<GetReply> {
        let mut client = self.client.clone();
        client.ready().await.unwrap();
        let codec: ProstCodec<GetRequest, GetReply> = ProstCodec::default();
        let request = tonic::Request::new(GetRequest::default());
        client.server_streaming(request, path("Watch"), codec).await.unwrap().into_inner()
    }
}

fn path(method: &str) -> http::uri::PathAndQuery {
    format!("/{}/{method}", Leader::NAME).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_passed_on_with_its_metadata_and_its_deadline_and_marked() {
    let play = Play::start().await;
    let mut request = tonic::Request::new(GetRequest::default());
    request.set_timeout(Duration::from_secs(9));
    request.metadata_mut().insert("x-caller", "me".parse().unwrap());
    let answer = play.call_with("Get", request).await.unwrap();
    assert_eq!(answer.metadata().get("x-leader").unwrap(), "said so");
    assert_eq!(answer.into_inner().kv.unwrap().value, [7]);
    let heard = play.leader.heard.lock().unwrap().clone();
    let header = |name: &str| heard.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header(metadata::FORWARDED).as_deref(), Some("1"));
    assert_eq!(header("x-caller").as_deref(), Some("me"));
    assert!(header("grpc-timeout").is_some_and(|it| it.starts_with('9')), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_after_sending_leaves_the_outcome_unknown_and_nothing_is_sent_again() {
    let play = Play::start().await;
    let mut puts = play.leader.puts.subscribe();
    let cut = async {
        puts.wait_for(|puts| *puts > 0).await.unwrap();
        play.line.send_replace(Line::Cut);
    };
    let (answer, ()) = tokio::join!(play.call("Put"), cut);
    let detail = status::detail(&answer.unwrap_err()).expect("typed");
    assert_eq!((detail.kind(), detail.outcome()), (Kind::LostLeadership, Outcome::Unknown));
    assert_eq!(*play.leader.puts.borrow(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_connection_breaks_ends_with_a_typed_status() {
    let play = Play::start().await;
    let mut watched = play.watch().await;
    assert!(watched.message().await.unwrap().is_some());
    play.line.send_replace(Line::Cut);
    let ended = async {
        loop {
            match watched.message().await {
                Ok(piece) => assert!(piece.is_some(), "it may not look whole"),
                Err(status) => break status,
            }
        }
    };
    let ended = play.world.timeout(BOUND, ended).await.expect("it ends in time");
    let detail = status::detail(&ended).expect("typed");
    assert_eq!((detail.kind(), detail.outcome()), (Kind::NoStoreLeader, Outcome::NotApplied));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_does_not_read_slows_the_store_leaders_stream_down_and_nothing_else() {
    let play = Play::start().await;
    let mut watched = play.watch().await;
    assert!(watched.message().await.unwrap().is_some());
    for _ in 0..200 {
        play.call("Get").await.unwrap();
    }
    // The windows of two connections, and what lies in buffers between them.
    let most = (32 << 20) / PIECE;
    let produced = play.leader.pieces.load(Ordering::Relaxed);
    assert!(produced < most, "{produced} pieces were produced for somebody who took one");
}
