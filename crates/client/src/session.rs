//! A session: this process's liveness in the store, and the campaigns that live with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use palisade_fence::Token;
use palisade_wire::coord::v1;
use palisade_world::World;
use tokio::sync::{mpsc, oneshot, watch};

use crate::client::closed;
use crate::requests::Shared;
use crate::serials::{Serial, Serials};
use crate::session_core::{IsOpen, Key};
use crate::session_driver::{Ask, OpenedSession};
use crate::{Error, ErrorKind, Leadership, Value};

/// What a session is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionOptions {
    /// An id that the caller gives: 1 to 2^63 - 1. The session's id is this number with bit 63 set, and no session of that id
    /// may live. `None`: the store chooses one that never comes again.
    pub given_id: Option<u64>,
    /// The store ends the session when it has heard nothing for this long. The server allows a range (200 ms to 10 min).
    pub ttl: Duration,
    /// What a broken connection does.
    pub on_disconnect: OnDisconnect,
}

impl Default for SessionOptions {
    /// Two seconds, kept until the TTL, under an id that the store chooses.
    fn default() -> SessionOptions {
        SessionOptions { given_id: None, ttl: Duration::from_secs(2), on_disconnect: OnDisconnect::KeepUntilTtl }
    }
}

/// What a broken connection does to a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnDisconnect {
    /// Nothing: the holder's own clock is a safe guard.
    #[default]
    KeepUntilTtl,
    /// The session ends this long after its connection broke, unless it came back. Only for users who fence.
    ReleaseAfter(Duration),
}

/// What somebody else wants of a session that keeps its leaderships until its TTL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SessionWish {
    /// That it is closed when its leaders are ready: [`Session::close`].
    Close,
    /// As `Close`; also the store renews it no more, so that it ends with its TTL at the latest. Deadlines stay where they are.
    StopRenewing,
}

impl SessionWish {
    pub(crate) fn of(wish: v1::session_asked::Wish) -> Option<SessionWish> {
        match wish {
            v1::session_asked::Wish::None => None,
            v1::session_asked::Wish::Close => Some(SessionWish::Close),
            v1::session_asked::Wish::StopRenewing => Some(SessionWish::StopRenewing),
        }
    }
}

/// Why a session is over for this process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SessionEnd {
    /// It was closed here, or its last handle was dropped.
    Closed,
    /// A leadership reached its limit without the store's word, so the session that held it is closed.
    LeadershipLost,
    /// The store ended it: expired, disconnected, removed, restored; empty if it did not say why.
    Store(String),
    /// The client was shut down.
    ClientClosed,
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionEnd::Closed => f.write_str("closed"),
            SessionEnd::LeadershipLost => f.write_str("a leadership reached its limit without the store's word"),
            SessionEnd::Store(why) if why.is_empty() => f.write_str("ended by the store"),
            SessionEnd::Store(why) => f.write_str(why),
            SessionEnd::ClientClosed => f.write_str("the client was shut down"),
        }
    }
}

/// A candidacy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CampaignOptions {
    /// Name of the election: 1 to 255 bytes of printable UTF-8.
    pub election: String,
    /// Names this candidate within the election; likewise.
    pub candidate_id: String,
    /// What observers see once it leads.
    pub value: Value,
    /// Higher goes first; within one priority whoever came first. It never preempts who leads.
    pub priority: i32,
}

/// An open session. Cheap to clone; when the last handle is gone (a [`Leadership`] holds one), the session is closed.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: u64,
    over: watch::Receiver<Option<SessionEnd>>,
    wish: watch::Receiver<Option<SessionWish>>,
    serials: Arc<Serials>,
    shared: Arc<Shared>,
    driver: mpsc::UnboundedSender<Ask>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.driver.send(Ask::Close { session: self.id, reply: None }); // a driver that is gone holds no session
    }
}

impl Session {
    pub(crate) fn new(opened: OpenedSession, shared: Arc<Shared>, driver: mpsc::UnboundedSender<Ask>) -> Session {
        let OpenedSession { is: IsOpen { session: id, first_serial }, over, wish } = opened;
        let serials = Arc::new(Serials::starting_at(first_serial));
        Session { inner: Arc::new(Inner { id, over, wish, serials, shared, driver }) }
    }

    /// Its id in the store.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Enters an election and waits until it leads. No timeout; it survives reconnects and the death of the store leader.
    /// Dropping the future withdraws the candidacy: in the background, until the store has said that it does not stand.
    ///
    /// An error of kind [`ErrorKind::SessionEnded`](crate::ErrorKind::SessionEnded) means that the session ended meanwhile:
    /// open another one. [`ErrorKind::CandidateExists`](crate::ErrorKind::CandidateExists): the same id waits or leads for
    /// another live session, such as that of this process before it was started anew; that one ends by its TTL at the latest.
    pub async fn campaign(&self, options: CampaignOptions) -> Result<Leadership, Error> {
        let serial = self.inner.serials.next();
        let key = Key { session: self.inner.id, serial: serial.get() };
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Campaign {
            key,
            serial,
            election: options.election,
            candidate: options.candidate_id,
            value: options.value.to_wire(),
            priority: options.priority,
            reply,
        };
        let _ = self.inner.driver.send(ask); // a driver that is gone drops the reply
        let mut waiting = Waiting { key, driver: Some(&self.inner.driver) };
        let decided = answer.await.map_err(|_| closed());
        waiting.driver = None;
        Ok(Leadership::new(decided??, self.clone()))
    }

    /// Ends the session, and with it all that it holds. What it holds is lost here before the store hears of it. Bounded by
    /// the request timeout: after it the outcome is unknown, and the session ends by its TTL at the latest.
    pub async fn close(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inner.driver.send(Ask::Close { session: self.inner.id, reply: Some(reply) }); // as above
        self.bounded(answer, "closing the session").await
    }

    /// Resolves when the session is over. Cancelling it is harmless.
    pub async fn ended(&self) -> SessionEnd {
        let mut over = self.inner.over.clone();
        match over.wait_for(Option::is_some).await {
            Ok(why) => why.clone().expect("it was waited for"),
            Err(_) => SessionEnd::ClientClosed,
        }
    }

    /// What somebody else wants of it, such as an administrator; it stays until the session ends. Who leads for it is told by
    /// [`Leadership::end_requested`].
    pub fn asked(&self) -> watch::Receiver<Option<SessionWish>> {
        self.inner.wish.clone()
    }

    pub(crate) fn world(&self) -> &World {
        &self.inner.shared.world
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// A serial for a request id; open until it is dropped.
    pub(crate) fn serial(&self) -> Serial {
        self.inner.serials.next()
    }

    pub(crate) fn step_down(&self, key: Key, token: Token, reply: Option<oneshot::Sender<Result<(), Error>>>) {
        let _ = self.inner.driver.send(Ask::StepDown { key, token, reply }); // as above
    }

    /// Waits for the driver's answer within the request timeout.
    pub(crate) async fn bounded(&self, answer: oneshot::Receiver<Result<(), Error>>, what: &str) -> Result<(), Error> {
        let limit = self.inner.shared.request_timeout;
        match self.world().timeout(limit, answer).await {
            Some(answer) => answer.map_err(|_| closed())?,
            None => Err(Error::unknown(ErrorKind::TimedOut, format!("{what}: no answer within {limit:?}"))
                .with_hint("it is tried on in the background; the session ends by its TTL at the latest")),
        }
    }
}

/// A campaign that waits: dropping it says so.
struct Waiting<'a> {
    key: Key,
    driver: Option<&'a mpsc::UnboundedSender<Ask>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(driver) = self.driver {
            let _ = driver.send(Ask::Abandon { key: self.key }); // as above
        }
    }
}

/// The store counts in whole milliseconds, and nothing is silently changed.
pub(crate) fn whole_ms(field: &str, span: Duration) -> Result<(), Error> {
    if span.subsec_nanos().is_multiple_of(1_000_000) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{span:?}"), "a whole number of milliseconds"))
}
