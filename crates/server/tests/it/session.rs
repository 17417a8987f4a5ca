//! A session stream, frame by frame.

use std::collections::VecDeque;

use palisade_wire::coord::v1::on_disconnect::{self, KeepUntilTtl};
use palisade_wire::coord::v1::{
    AttachSession, Campaign, ClientFrame, ErrorDetail, Grant, LeaderValue, OnDisconnect, OpenSession, ServerFrame,
    SessionAttached, client_frame, server_frame,
};
use palisade_world::World;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::cluster::{Cluster, soon};

/// Longer than any test: its sessions need no keep-alives.
pub(crate) const LONG_TTL_MS: u64 = 120_000;

/// One stream with its sessions.
pub(crate) struct SessionStream {
    world: World,
    frames: mpsc::Sender<ClientFrame>,
    replies: Streaming<ServerFrame>,
    events: VecDeque<server_frame::Body>,
    call: u64,
}

impl SessionStream {
    /// Waits until the node takes session streams: a new store leader applies its own first entry before it does.
    pub(crate) async fn connect(cluster: &Cluster, node: u64) -> SessionStream {
        let begun = async || {
            let (frames, queue) = mpsc::channel(64);
            let replies = cluster.sessions(node).stream(ReceiverStream::new(queue)).await.ok()?;
            Some((frames, replies.into_inner()))
        };
        let (frames, replies) = cluster.until("a session stream", begun).await;
        SessionStream { world: cluster.world.clone(), frames, replies, events: VecDeque::new(), call: 0 }
    }

    /// Sends a frame and waits for its answer; events that come before it are kept.
    pub(crate) async fn call(&mut self, body: client_frame::Body) -> server_frame::Body {
        self.call += 1;
        self.frames.send(ClientFrame { call: self.call, body: Some(body) }).await.unwrap();
        loop {
            let frame = self.frame().await;
            let body = frame.body.expect("a frame has a body");
            if frame.call == self.call {
                return body;
            }
            self.events.push_back(body);
        }
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> server_frame::Body {
        match self.events.pop_front() {
            Some(event) => event,
            None => self.frame().await.body.expect("a frame has a body"),
        }
    }

    /// What ends the stream.
    pub(crate) async fn ends(&mut self) -> Status {
        loop {
            match self.replies.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream ends with a status"),
                Err(status) => return status,
            }
        }
    }

    async fn frame(&mut self) -> ServerFrame {
        let message = soon(&self.world, "a frame", self.replies.message()).await;
        message.expect("the stream lives").expect("the stream goes on")
    }

    /// Opens a session that keeps until its TTL.
    pub(crate) async fn open(&mut self) -> u64 {
        self.open_as(on_disconnect::Kind::KeepUntilTtl(KeepUntilTtl {})).await
    }

    pub(crate) async fn open_as(&mut self, kind: on_disconnect::Kind) -> u64 {
        let open =
            OpenSession { ttl_ms: LONG_TTL_MS, on_disconnect: Some(OnDisconnect { kind: Some(kind) }), session_id: 0 };
        match self.call(client_frame::Body::Open(open)).await {
            server_frame::Body::Opened(opened) => opened.session,
            other => panic!("opening a session: {other:?}"),
        }
    }

    pub(crate) async fn attach(&mut self, session: u64) -> SessionAttached {
        match self.call(client_frame::Body::Attach(AttachSession { session })).await {
            server_frame::Body::Attached(attached) => attached,
            other => panic!("attaching a session: {other:?}"),
        }
    }

    /// Campaigns; the grant if it came at once.
    pub(crate) async fn campaign(&mut self, session: u64, serial: u64, election: &str, id: &str) -> Option<Grant> {
        self.campaign_with_priority(session, serial, election, id, 0).await
    }

    pub(crate) async fn campaign_with_priority(
        &mut self,
        session: u64,
        serial: u64,
        election: &str,
        id: &str,
        priority: i32,
    ) -> Option<Grant> {
        let campaign = Campaign {
            session,
            serial,
            election: election.to_owned(),
            candidate_id: id.to_owned(),
            value: Some(LeaderValue { address: format!("{id}:1"), ..LeaderValue::default() }),
            priority,
        };
        match self.call(client_frame::Body::Campaign(campaign)).await {
            server_frame::Body::Campaigned(campaigned) => campaigned.grant,
            other => panic!("campaigning: {other:?}"),
        }
    }

    /// Campaigns, and is refused.
    pub(crate) async fn campaign_refused(
        &mut self,
        session: u64,
        serial: u64,
        election: &str,
        id: &str,
    ) -> ErrorDetail {
        let (election, candidate_id) = (election.to_owned(), id.to_owned());
        let campaign = Campaign { session, serial, election, candidate_id, ..Campaign::default() };
        match self.call(client_frame::Body::Campaign(campaign)).await {
            server_frame::Body::Refused(refused) => refused.error.expect("a refusal says why"),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}
