//! A leadership as its holder sees it: held, suspect, lost.

use std::fmt;
use std::time::Duration;

use palisade_fence::{Fence, Token, TokenSource};
use palisade_world::World;
use tokio::sync::{oneshot, watch};

use crate::elections::proclaim;
use crate::session_core::Key;
use crate::session_driver::Led;
use crate::{Error, Grant, ProclaimOptions, Session, Value};

/// What the holder may believe. Deadlines are on the clock of [`palisade_world::World::now`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeadershipState {
    /// Confirmed; it can be believed until the deadline.
    Held {
        /// Moves on with every acknowledged keep-alive.
        deadline: Duration,
    },
    /// The stream to the store broke. It is still held until the deadline, and may be confirmed again under the same token.
    /// Finish what you do; begin nothing long. A holder that is released on disconnect may be released any time now: fence.
    Suspect {
        /// When it is lost unless it is confirmed.
        deadline: Duration,
    },
    /// Over for good. The same process may campaign again and gets another token.
    Lost {
        /// Why.
        why: LostWhy,
    },
}

/// Somebody other than the holder wants a leadership to end; it goes on until the holder is ready and resigns.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EndRequest {
    /// The candidate that is to lead then: resigning hands over to it if it still waits. `None`: nobody is named.
    pub to: Option<String>,
}

/// Why a leadership is over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum LostWhy {
    /// It was resigned here, or its handle was dropped.
    Resigned,
    /// Its session was closed here.
    Closed,
    /// No keep-alive was acknowledged in time: the TTL has passed on this process's clock.
    Deadline,
    /// The stream broke and was not back within the time in which the store releases such a holder.
    Disconnected,
    /// The store says so: resigned or removed from outside, or the session ended.
    Store(String),
    /// The client was shut down.
    ClientClosed,
}

impl fmt::Display for LostWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LostWhy::Resigned => f.write_str("resigned"),
            LostWhy::Closed => f.write_str("closed"),
            LostWhy::Deadline => f.write_str("no keep-alive was acknowledged before the deadline"),
            LostWhy::Disconnected => f.write_str("disconnected for longer than the store keeps such a holder"),
            LostWhy::Store(why) => f.write_str(why),
            LostWhy::ClientClosed => f.write_str("the client was shut down"),
        }
    }
}

/// A leadership that this process was granted. Dropping it resigns in the background; [`Leadership::resign`] says when that is
/// done. It keeps its session open.
#[derive(Debug)]
#[must_use = "dropping a leadership resigns it"]
pub struct Leadership {
    grant: Grant,
    state: watch::Receiver<LeadershipState>,
    requested: watch::Receiver<Option<EndRequest>>,
    session: Session,
}

impl Leadership {
    pub(crate) fn new(led: Led, session: Session) -> Leadership {
        let Led { grant, state, requested } = led;
        Leadership { grant, state, requested, session }
    }

    /// The fencing token. It goes on naming this leadership after it was lost; to stamp messages, use
    /// [`Leadership::token_source`].
    pub fn token(&self) -> Token {
        self.grant.token
    }

    /// `ELECTION:TOKEN`, to be carried by every write.
    pub fn fence(&self) -> Fence {
        self.grant.fence()
    }

    /// The grant as the store made it.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The session that holds it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Until when it can be believed, on the clock of [`palisade_world::World::now`]. Once lost: zero, which has passed.
    pub fn deadline(&self) -> Duration {
        match *self.state.borrow() {
            LeadershipState::Held { deadline } | LeadershipState::Suspect { deadline } => deadline,
            LeadershipState::Lost { .. } => Duration::ZERO,
        }
    }

    /// Held, suspect, lost: the newest always. It ends after `Lost`.
    pub fn state(&self) -> watch::Receiver<LeadershipState> {
        self.state.clone()
    }

    /// Resolves when it is lost. Cancelling it is harmless.
    pub async fn lost(&self) -> LostWhy {
        let mut state = self.state.clone();
        match state.wait_for(|state| matches!(state, LeadershipState::Lost { .. })).await.as_deref() {
            Ok(LeadershipState::Lost { why }) => why.clone(),
            Ok(LeadershipState::Held { .. } | LeadershipState::Suspect { .. }) | Err(_) => LostWhy::ClientClosed,
        }
    }

    /// What somebody else asked of this leadership, now and later: it survives reconnects and failovers of the store, and goes
    /// with the leadership.
    pub fn requested(&self) -> watch::Receiver<Option<EndRequest>> {
        self.requested.clone()
    }

    /// Resolves when somebody asks for its end: finish what you do, then [`Leadership::resign`]. Never, once it is lost.
    /// Cancelling it is harmless.
    pub async fn end_requested(&self) -> EndRequest {
        let mut requested = self.requested.clone();
        let asked = requested.wait_for(Option::is_some).await.ok().and_then(|request| request.clone());
        match asked {
            Some(request) => request,
            None => std::future::pending().await, // it is lost, which is told elsewhere
        }
    }

    /// Changes what observers see. Repeated until it is answered, within the request timeout; it takes effect once.
    pub async fn proclaim(&self, value: Value) -> Result<(), Error> {
        let (election, token) = (self.grant.election.clone(), self.grant.token);
        let options = ProclaimOptions { election, token, value, session: Some(&self.session) };
        proclaim(self.session.shared(), options).await.map(|_| ())
    }

    /// Stops believing, then hands over: everybody here sees `Lost` before the store hears of it. If the store cannot be
    /// reached within the request timeout, the outcome is unknown, and the hand-over is tried on in the background for as
    /// long as the session lives. Resigning what is lost already is no error.
    pub async fn resign(self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.session.step_down(self.key(), self.grant.token, Some(reply));
        self.session.bounded(answer, "resigning").await
    }

    /// Where senders get the token to stamp; `None` once it is lost.
    pub fn token_source(&self) -> LeaderToken {
        LeaderToken { token: self.grant.token, state: self.state.clone(), world: self.session.world().clone() }
    }

    fn key(&self) -> Key {
        Key { session: self.grant.session, serial: self.grant.serial }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.session.step_down(self.key(), self.grant.token, None);
    }
}

/// Gives the token while it may be believed. It does not keep the leadership: it gives `None` once the handle is dropped.
#[derive(Clone, Debug)]
pub struct LeaderToken {
    token: Token,
    state: watch::Receiver<LeadershipState>,
    world: World,
}

impl TokenSource for LeaderToken {
    fn token(&self) -> Option<Token> {
        // Read before the clock: a deadline that moved on meanwhile only makes this answer more careful than it need be.
        let deadline = match *self.state.borrow() {
            LeadershipState::Held { deadline } | LeadershipState::Suspect { deadline } => deadline,
            LeadershipState::Lost { .. } => return None,
        };
        // The task that says "lost" may not have run yet, after a pause of the whole process for example.
        (self.world.now() < deadline).then_some(self.token)
    }
}
