//! The same over real connections: what gRPC itself does with bad input.

use std::sync::Arc;
use std::time::Duration;

use palisade_replica::{ReplicaStatus, Role};
use palisade_wire::coord::v1::client_frame::Body as Asks;
use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::server_frame::Body;
use palisade_wire::coord::v1::session_service_client::SessionServiceClient;
use palisade_wire::coord::v1::{Campaign, ClientFrame, KeepAlive, LeaderValue, OpenSession, ServerFrame};
use palisade_wire::status;
use palisade_world::{Task, World, grpc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::super::{FRAME_BYTES, SessionSettings};
use super::fake::Fake;
use crate::connections::Line;
use crate::forward::Forwarder;

const BOUND: Duration = Duration::from_secs(30);

struct Server {
    address: String,
    fake: Arc<Fake>,
    world: World,
    _tasks: [Task<()>; 2],
}

impl Server {
    async fn start() -> Server {
        let world = World::real();
        let fake = Fake::founded();
        let settings = SessionSettings {
            ttl: Duration::from_millis(200)..=Duration::from_secs(600),
            election_timeout: Duration::from_secs(5),
            metrics: crate::metrics::NodeMetrics::new(),
        };
        // It knows nobody to forward to.
        let status = ReplicaStatus {
            role: Role::Follower,
            leadership: None,
            store_leader: None,
            term: 1,
            applied: 0,
            committed: 0,
            members: Vec::new(),
            ids: palisade_replica::MemberIds::default(),
            fatal: None,
        };
        let (status, line) = (watch::Sender::new(status).subscribe(), watch::Sender::new(Line::Open).subscribe());
        let forwarder = Forwarder::new(1, status, line, &world);
        let (service, driver) = super::super::start(Arc::clone(&fake), settings, forwarder, &world);
        let listener = world.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().to_string();
        let serving = grpc::server(&world).add_service(service).serve_with_incoming(grpc::incoming(listener));
        let server = world.spawn("server", async move {
            let _ = serving.await;
        });
        Server { address, fake, world, _tasks: [driver, server] }
    }

    async fn connect(&self) -> Result<(mpsc::Sender<ClientFrame>, Streaming<ServerFrame>), Status> {
        let channel = grpc::channel(&self.world, &self.address).unwrap();
        let (frames, sent) = mpsc::channel(64);
        let call = async move { SessionServiceClient::new(channel).stream(ReceiverStream::new(sent)).await };
        let answer = self.world.timeout(BOUND, call).await.expect("an answer in time")?;
        Ok((frames, answer.into_inner()))
    }

    /// A stream with a session, once the node leads.
    async fn session(&self) -> (mpsc::Sender<ClientFrame>, Streaming<ServerFrame>, u64) {
        let (frames, mut answers) = loop {
            match self.connect().await {
                Ok(connected) => break connected,
                // The driver has not seen yet that the node leads.
                Err(status) => assert!(status::detail(&status).is_some(), "{status}"),
            }
        };
        let open = Asks::Open(OpenSession { ttl_ms: 60_000, ..OpenSession::default() });
        frames.send(ClientFrame { call: 1, body: Some(open) }).await.unwrap();
        match self.next(&mut answers).await.unwrap().body {
            Some(Body::Opened(opened)) => (frames, answers, opened.session),
            other => panic!("expected a session, got {other:?}"),
        }
    }

    async fn next(&self, answers: &mut Streaming<ServerFrame>) -> Result<ServerFrame, Status> {
        let next = self.world.timeout(BOUND, answers.message()).await.expect("something in time");
        next.map(|frame| frame.expect("a stream ends with a status"))
    }

    async fn assert_renews(&self, frames: &mpsc::Sender<ClientFrame>, answers: &mut Streaming<ServerFrame>, id: u64) {
        let keep_alive = Asks::KeepAlive(KeepAlive { sessions: vec![id] });
        frames.send(ClientFrame { call: 99, body: Some(keep_alive) }).await.unwrap();
        let frame = self.next(answers).await.unwrap();
        assert!(matches!(&frame.body, Some(Body::KeptAlive(kept)) if kept.sessions == [id]), "{frame:?}");
    }
}

#[tokio::test]
async fn a_node_that_is_not_the_store_leader_refuses_with_a_hint() {
    let server = Server::start().await;
    server.fake.lose(Some("elsewhere:7070"));
    let detail = loop {
        let detail = status::detail(&server.connect().await.unwrap_err()).expect("typed");
        assert_eq!(detail.outcome(), Outcome::NotApplied);
        if detail.store_leader.is_some() {
            break detail; // else the driver has not looked yet
        }
    };
    assert_eq!(detail.kind(), Kind::NotStoreLeader);
    assert_eq!(detail.store_leader.unwrap().address, "elsewhere:7070");
}

#[tokio::test]
async fn a_lost_leadership_reaches_the_client_as_a_typed_status() {
    let server = Server::start().await;
    server.fake.lead(1);
    let (_frames, mut answers, _) = server.session().await;
    server.fake.lose(Some("elsewhere:7070"));
    let status = server.next(&mut answers).await.unwrap_err();
    let detail = status::detail(&status).expect("typed");
    assert_eq!((detail.kind(), detail.outcome()), (Kind::NotStoreLeader, Outcome::Unknown));
    assert_eq!(detail.store_leader.unwrap().address, "elsewhere:7070");
}

#[tokio::test]
async fn a_value_that_is_too_large_is_refused_and_a_frame_that_is_ends_its_stream_only() {
    let server = Server::start().await;
    server.fake.lead(1);
    let (frames, mut answers, session) = server.session().await;
    let (others, mut other_answers, other) = server.session().await;
    let campaign = |bytes: usize| {
        Asks::Campaign(Campaign {
            session,
            serial: 1,
            election: "e".to_owned(),
            candidate_id: "c".to_owned(),
            value: Some(LeaderValue { data: vec![0; bytes], ..LeaderValue::default() }),
            priority: 0,
        })
    };
    frames.send(ClientFrame { call: 2, body: Some(campaign(65 << 10)) }).await.unwrap();
    match server.next(&mut answers).await.unwrap().body {
        Some(Body::Refused(refused)) => assert_eq!(refused.error.unwrap().field, "value"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    frames.send(ClientFrame { call: 3, body: Some(campaign(FRAME_BYTES)) }).await.unwrap();
    let detail = status::detail(&server.next(&mut answers).await.unwrap_err()).expect("typed");
    assert_eq!((detail.kind(), detail.field.as_str()), (Kind::InvalidArgument, "frame"));
    server.assert_renews(&others, &mut other_answers, other).await;
}

/// Field 2 of a frame is a message; these bytes are none.
#[derive(Clone, PartialEq, prost::Message)]
struct NoFrame {
    #[prost(bytes = "vec", tag = "2")]
    garbage: Vec<u8>,
}

#[tokio::test]
async fn garbage_ends_its_stream_or_connection_only() {
    let server = Server::start().await;
    server.fake.lead(1);
    let (others, mut other_answers, other) = server.session().await;

    let mut client = tonic::client::Grpc::new(grpc::channel(&server.world, &server.address).unwrap());
    client.ready().await.unwrap();
    let path = "/palisade.coord.v1.SessionService/Stream".parse().unwrap();
    let (garbage, sent) = mpsc::channel(1);
    garbage.send(NoFrame { garbage: vec![0xff; 9] }).await.unwrap();
    let codec = tonic_codec();
    let answer = client.streaming(Request::new(ReceiverStream::new(sent)), path, codec).await.unwrap();
    let status = server.next(&mut answer.into_inner()).await.unwrap_err();
    assert_eq!(status::detail(&status).expect("typed").field, "frame");

    let mut socket = server.world.connect(&server.address).await.unwrap();
    socket.write_all(&[0x16; 512]).await.unwrap();
    let mut rest = Vec::new();
    let closed = server.world.timeout(BOUND, socket.read_to_end(&mut rest)).await;
    assert!(closed.is_some(), "the connection is closed");
    server.assert_renews(&others, &mut other_answers, other).await;
}

fn tonic_codec() -> tonic_prost::ProstCodec<NoFrame, ServerFrame> {
    tonic_prost::ProstCodec::default()
}
