//! The session driver on a node without Raft: the state machine is real, what lies between is played by `fake`.

mod fake;
mod order;
mod relayed;
mod streams;
mod transport;

use std::time::Duration;

use futures_util::StreamExt;
use palisade_coord_core::State;
use palisade_liveness::StreamId;
use palisade_wire::coord::v1::client_frame::Body as Asks;
use palisade_wire::coord::v1::on_disconnect::{KeepUntilTtl, Kind as Disconnect};
use palisade_wire::coord::v1::server_frame::Body;
use palisade_wire::coord::v1::{
    self, AttachSession, Campaign, ClientFrame, CloseSession, ErrorDetail, KeepAlive, OnDisconnect, OpenSession,
};
use palisade_wire::status;
use palisade_world::{Task, World};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use super::driver::Driver;
use super::frames::admit;
use super::outbox::{OutboxStream, outbox};
use super::reader::Input;
use super::{Entrance, INPUTS, SessionSettings};
use fake::Fake;
pub(crate) use fake::paused_world;

const ELECTION_TIMEOUT: Duration = Duration::from_millis(300);

/// Longer than anything that is waited for, in the paused time of these tests.
const BOUND: Duration = Duration::from_secs(120);

/// A node with a session driver.
struct TestNode {
    fake: std::sync::Arc<Fake>,
    inputs: mpsc::Sender<Input>,
    entrance: watch::Receiver<Entrance>,
    world: World,
    _driver: Task<()>,
}

impl TestNode {
    /// One that leads the store.
    async fn leading() -> TestNode {
        let mut node = TestNode::following();
        node.fake.lead(1);
        node.accepts().await;
        node
    }

    fn following() -> TestNode {
        let world = fake::paused_world();
        let fake = Fake::founded();
        let (inputs, waiting) = mpsc::channel(INPUTS);
        let (entrance, entrance_watch) = watch::channel(Entrance::Open);
        let settings = SessionSettings {
            ttl: Duration::from_millis(200)..=Duration::from_secs(600),
            election_timeout: ELECTION_TIMEOUT,
            metrics: crate::metrics::NodeMetrics::new(),
        };
        let driver = Driver::new(std::sync::Arc::clone(&fake), settings, waiting, entrance, world.clone());
        let driver = world.spawn("session driver", driver.run());
        TestNode { fake, inputs, entrance: entrance_watch, world, _driver: driver }
    }

    /// Waits until streams may begin.
    async fn accepts(&mut self) {
        let open = self.entrance.wait_for(|entrance| *entrance == Entrance::Open);
        assert!(self.world.timeout(BOUND, open).await.is_some_and(|open| open.is_ok()), "streams may begin");
    }

    /// Waits until streams may not begin, and says why.
    async fn shut(&mut self) -> ErrorDetail {
        let shut = self.entrance.wait_for(|entrance| matches!(entrance, Entrance::Shut(_)));
        match self.world.timeout(BOUND, shut).await.expect("in time").expect("the driver runs").clone() {
            Entrance::Shut(why) => why,
            Entrance::Open => unreachable!("it was waited for"),
        }
    }

    async fn stream(&self, id: u64) -> TestStream {
        let stream = StreamId(id);
        let (outbox, frames, _gone) = outbox(&self.world);
        let (stop, stopped) = oneshot::channel();
        self.inputs.send(Input::Began { stream, outbox, stop }).await.expect("the driver runs");
        TestStream { stream, inputs: self.inputs.clone(), frames, stopped, world: self.world.clone() }
    }

    fn lives(&self, session: u64) -> bool {
        self.fake.read_state(|state| state.session(palisade_coord_core::SessionId(session)).is_some())
    }

    /// Waits until the state is so.
    async fn until(&self, so: impl Fn(&State) -> bool) {
        self.world.timeout(BOUND, self.fake.until(so)).await.expect("the state becomes so in time");
    }

    /// Time passes for the driver.
    async fn pass(&self, span: Duration) {
        self.world.sleep(span).await;
    }
}

/// One client process.
struct TestStream {
    stream: StreamId,
    inputs: mpsc::Sender<Input>,
    frames: OutboxStream,
    stopped: oneshot::Receiver<()>,
    world: World,
}

impl TestStream {
    async fn send(&self, call: u64, body: Asks) {
        let frame = ClientFrame { call, body: Some(body) };
        let request = admit(frame, 200..=600_000, 0);
        self.inputs.send(Input::Frame { stream: self.stream, call, request }).await.expect("the driver runs");
    }

    async fn open(&self, call: u64, ttl_ms: u64, kind: Disconnect) {
        let on_disconnect = Some(OnDisconnect { kind: Some(kind) });
        self.send(call, Asks::Open(OpenSession { ttl_ms, on_disconnect, session_id: 0 })).await;
    }

    /// Opens a session and waits for it.
    async fn opened(&mut self, ttl_ms: u64, kind: Disconnect) -> u64 {
        self.open(1_000_000, ttl_ms, kind).await;
        match self.next().await {
            (1_000_000, Body::Opened(opened)) => opened.session,
            other => panic!("expected a session, got {other:?}"),
        }
    }

    async fn attach(&self, call: u64, session: u64) {
        self.send(call, Asks::Attach(AttachSession { session })).await;
    }

    async fn keep_alive(&self, call: u64, sessions: &[u64]) {
        self.send(call, Asks::KeepAlive(KeepAlive { sessions: sessions.to_vec() })).await;
    }

    async fn campaign(&self, call: u64, session: u64, serial: u64, election: &str) {
        let campaign = Campaign {
            session,
            serial,
            election: election.to_owned(),
            candidate_id: format!("candidate of {session}"),
            ..Campaign::default()
        };
        self.send(call, Asks::Campaign(campaign)).await;
    }

    async fn close(&self, call: u64, session: u64) {
        self.send(call, Asks::Close(CloseSession { session })).await;
    }

    /// The client's process dies.
    async fn dies(self) {
        self.inputs.send(Input::Broke { stream: self.stream, status: None }).await.expect("the driver runs");
    }

    /// The node that relays it dies.
    async fn relay_dies(self) {
        self.inputs.send(Input::RelayLost { stream: self.stream }).await.expect("the driver runs");
    }

    async fn next(&mut self) -> (u64, Body) {
        let frame = self.take().await.expect("a frame, not the end");
        (frame.call, frame.body.expect("frames have a body"))
    }

    /// What ends the stream.
    async fn end(&mut self) -> ErrorDetail {
        let status = loop {
            match self.take().await {
                Ok(_) => {}
                Err(status) => break status,
            }
        };
        assert!((&mut self.stopped).await.is_err(), "its reader is told to end");
        status::detail(&status).expect("it says what is known")
    }

    async fn take(&mut self) -> Result<v1::ServerFrame, Status> {
        let next = self.world.timeout(BOUND, self.frames.next()).await;
        next.expect("something comes in time").expect("the stream ends with a status")
    }

    async fn refused(&mut self) -> (u64, ErrorDetail) {
        match self.next().await {
            (call, Body::Refused(refused)) => (call, refused.error.expect("a refusal has a detail")),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    async fn kept_alive(&mut self) -> (u64, Vec<u64>) {
        match self.next().await {
            (call, Body::KeptAlive(kept)) => (call, kept.sessions),
            other => panic!("expected a renewal, got {other:?}"),
        }
    }

    async fn attached(&mut self) -> v1::SessionAttached {
        match self.next().await {
            (_, Body::Attached(attached)) => attached,
            other => panic!("expected an attachment, got {other:?}"),
        }
    }

    async fn campaigned(&mut self) -> Option<v1::Grant> {
        match self.next().await {
            (_, Body::Campaigned(campaigned)) => campaigned.grant,
            other => panic!("expected the answer to a campaign, got {other:?}"),
        }
    }

    async fn granted(&mut self) -> v1::Grant {
        match self.next().await {
            (0, Body::Granted(granted)) => granted.grant.expect("a grant is granted"),
            other => panic!("expected a grant, got {other:?}"),
        }
    }

    async fn ended(&mut self) -> (u64, String) {
        match self.next().await {
            (0, Body::Ended(ended)) => (ended.session, ended.why),
            other => panic!("expected the end of a session, got {other:?}"),
        }
    }
}

const KEEP: Disconnect = Disconnect::KeepUntilTtl(KeepUntilTtl {});

fn release(after_ms: u64) -> Disconnect {
    Disconnect::ReleaseAfterMs(after_ms)
}
