//! Sessions as somebody sees them who is not their client: a list of all, and the end of one.

use std::sync::Arc;
use std::time::Duration;

use palisade_wire::coord::v1;
use palisade_wire::coord::v1::session_service_client::SessionServiceClient;

use crate::elections::repeat;
use crate::kv::identified;
use crate::requests::Shared;
use crate::{Client, Demand, Ended, Error, OnDisconnect, Reading, Session, SessionWish};

/// One session that lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionSummary {
    /// Its id.
    pub session: u64,
    /// The store ends it when it has heard nothing for this long.
    pub ttl: Duration,
    /// What a broken connection does.
    pub on_disconnect: OnDisconnect,
    /// How often it was attached to a stream, from where it started.
    pub attach_generation: u64,
    /// Elections that it leads.
    pub leaderships: u32,
    /// Elections in whose queues it waits.
    pub waiting: u32,
    /// Keys that end with it.
    pub bound_keys: u32,
    /// What somebody else wants of it.
    pub wish: Option<SessionWish>,
}

impl Client {
    /// The sessions that live, by id. They are asked for in parts, so that a long list is not of one moment.
    pub async fn sessions(&self, reading: Reading) -> Result<Vec<SessionSummary>, Error> {
        let mut all: Vec<SessionSummary> = Vec::new();
        loop {
            let after = all.last().map_or(0, |last| last.session);
            let request = v1::ListSessionsRequest { serializable: reading.is_serializable(), after };
            let list = self.shared.request(reading.repeat(), |channel| async move {
                SessionServiceClient::new(channel).list(request).await
            });
            let reply = list.await?;
            all.extend(reply.sessions.into_iter().map(summary));
            if !reply.more {
                return Ok(all);
            }
        }
    }

    /// Ends a session from outside, or asks its client to if it keeps leaderships until its TTL. One's own: [`Session::close`].
    /// After an unknown outcome it is not sent again: [`Session::close_another`] is.
    pub async fn close_session(&self, session: u64, demand: Demand) -> Result<Ended, Error> {
        close(&self.shared, session, demand, None).await
    }
}

impl Session {
    /// As [`Client::close_session`], by somebody who has a session of their own: it remembers the answer, so that the request is
    /// repeated until it is answered, within the request timeout, and takes effect once.
    pub async fn close_another(&self, session: u64, demand: Demand) -> Result<Ended, Error> {
        if session == self.id() {
            return Err(Error::invalid("session", session, "another session than the one that asks"));
        }
        close(self.shared(), session, demand, Some(self)).await
    }
}

async fn close(shared: &Arc<Shared>, session: u64, demand: Demand, asker: Option<&Session>) -> Result<Ended, Error> {
    let (request_id, _serial) = identified(asker); // open until the answer is here
    let request =
        v1::CloseSessionRequest { session, force: demand.is_force(), end_session: demand.ends_session(), request_id };
    let close = shared
        .request(repeat(&request_id), |channel| async move { SessionServiceClient::new(channel).close(request).await });
    let reply = close.await?;
    Ended::of(reply.header.as_ref(), false, reply.requested)
}

fn summary(it: v1::SessionSummary) -> SessionSummary {
    let wish = it.wish();
    let on_disconnect = match it.on_disconnect.and_then(|it| it.kind) {
        Some(v1::on_disconnect::Kind::ReleaseAfterMs(ms)) => OnDisconnect::ReleaseAfter(Duration::from_millis(ms)),
        Some(v1::on_disconnect::Kind::KeepUntilTtl(_)) | None => OnDisconnect::KeepUntilTtl,
    };
    SessionSummary {
        session: it.session,
        ttl: Duration::from_millis(it.ttl_ms),
        on_disconnect,
        attach_generation: it.attach_generation,
        leaderships: it.leaderships,
        waiting: it.waiting,
        bound_keys: it.bound_keys,
        wish: SessionWish::of(wish),
    }
}
