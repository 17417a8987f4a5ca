//! One session stream of the harness's own: frames out, frames in. What they mean is the callers' affair.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::api::v1::session_service_client::SessionServiceClient;
use crate::api::v1::{self, client_frame, on_disconnect, server_frame};
use crate::api::{Outcome, TIMEOUT};

/// Frames that wait to be sent at most; a session says little.
const WAITING: usize = 64;

/// How a session is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) ttl: Duration,
    /// `None`: kept until the TTL.
    pub(crate) release_after: Option<Duration>,
}

impl Terms {
    pub(crate) fn on_disconnect(self) -> jepsen_lite::history::OnDisconnect {
        match self.release_after {
            None => jepsen_lite::history::OnDisconnect::KeepUntilTtl,
            Some(_) => jepsen_lite::history::OnDisconnect::ReleaseAfter,
        }
    }

    pub(crate) fn ttl_ms(self) -> u64 {
        ms(self.ttl)
    }
}

pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// An open stream; dropping it is the disconnect of its sessions.
#[derive(Debug)]
pub(crate) struct Line {
    frames: mpsc::Sender<v1::ClientFrame>,
    answers: tonic::Streaming<v1::ServerFrame>,
    calls: u64,
}

impl Line {
    /// Opens a stream at one node.
    pub(crate) async fn open(channel: Channel) -> Result<Line, String> {
        let (frames, waiting) = mpsc::channel(WAITING);
        let mut request = tonic::Request::new(ReceiverStream::new(waiting));
        request.set_timeout(Duration::from_secs(24 * 3600));
        let mut client = SessionServiceClient::new(channel);
        match tokio::time::timeout(TIMEOUT, client.stream(request)).await {
            Ok(Ok(answers)) => Ok(Line { frames, answers: answers.into_inner(), calls: 0 }),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err("timeout".to_owned()),
        }
    }

    /// Sends a frame without waiting; gives its call number. `None`: the stream is stuck or gone.
    pub(crate) fn send(&mut self, body: client_frame::Body) -> Option<u64> {
        self.calls += 1;
        let frame = v1::ClientFrame { call: self.calls, body: Some(body) };
        self.frames.try_send(frame).ok().map(|()| self.calls)
    }

    /// The next frame; `None`: the stream is gone. Cancelling it loses no frame.
    pub(crate) async fn next(&mut self) -> Option<(u64, server_frame::Body)> {
        loop {
            let frame = self.answers.message().await.ok().flatten()?;
            if let Some(body) = frame.body {
                return Some((frame.call, body));
            }
        }
    }

    /// Sends a frame and waits for its answer, within the bound; other frames meanwhile are dropped: only for a stream's first call.
    pub(crate) async fn first(&mut self, body: client_frame::Body) -> Outcome<server_frame::Body> {
        let Some(call) = self.send(body) else { return Outcome::Info("the stream broke".to_owned()) };
        let answer = async {
            loop {
                match self.next().await {
                    Some((of, body)) if of == call => return Some(body),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(Some(server_frame::Body::Refused(refused))) => {
                let detail = refused.error.unwrap_or_default();
                match detail.outcome() {
                    v1::error_detail::Outcome::NotApplied => Outcome::Fail(Box::new(detail)),
                    _ => Outcome::Info(crate::api::kind(&detail)),
                }
            }
            Ok(Some(body)) => Outcome::Ok(body),
            Ok(None) => Outcome::Info("the stream broke".to_owned()),
            Err(_) => Outcome::Info("timeout".to_owned()),
        }
    }
}

/// The frame that opens a session on these terms.
pub(crate) fn open(terms: Terms) -> client_frame::Body {
    let kind = match terms.release_after {
        None => on_disconnect::Kind::KeepUntilTtl(on_disconnect::KeepUntilTtl {}),
        Some(after) => on_disconnect::Kind::ReleaseAfterMs(ms(after)),
    };
    client_frame::Body::Open(v1::OpenSession {
        ttl_ms: terms.ttl_ms(),
        on_disconnect: Some(v1::OnDisconnect { kind: Some(kind) }),
        session_id: 0,
    })
}
