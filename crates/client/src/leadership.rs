//! A leadership as its holder sees it: held, suspect, lost.

use std::fmt;
use std::time::Duration;

use palisade_fence::{Fence, Token, TokenSource};
use tokio::sync::watch;

use crate::{Error, Grant, Value};

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

/// A leadership that this process was granted. Dropping it resigns in the background; [`Leadership::resign`] says when it is done.
#[derive(Debug)]
#[must_use = "dropping a leadership resigns it"]
pub struct Leadership {}

impl Leadership {
    /// The fencing token.
    pub fn token(&self) -> Token {
        panic!("not yet")
    }

    /// `ELECTION:TOKEN`, to be carried by every write.
    pub fn fence(&self) -> Fence {
        panic!("not yet")
    }

    /// The grant as the store made it.
    pub fn grant(&self) -> &Grant {
        panic!("not yet")
    }

    /// Until when it can be believed, on the clock of [`palisade_world::World::now`]. Once lost: when it was lost.
    pub fn deadline(&self) -> Duration {
        panic!("not yet")
    }

    /// Held, suspect, lost: the newest always.
    pub fn state(&self) -> watch::Receiver<LeadershipState> {
        panic!("not yet")
    }

    /// Resolves when it is lost. Cancelling it is harmless.
    pub async fn lost(&self) -> LostWhy {
        panic!("not yet")
    }

    /// Changes what observers see.
    pub async fn proclaim(&self, value: Value) -> Result<(), Error> {
        let _ = value;
        panic!("not yet")
    }

    /// Stops believing, then hands over. If the store cannot be reached in time the outcome is unknown, and the hand-over
    /// is tried on in the background until the session ends.
    pub async fn resign(self) -> Result<(), Error> {
        panic!("not yet")
    }

    /// Where senders get the token to stamp; `None` once it is lost.
    pub fn token_source(&self) -> LeaderToken {
        panic!("not yet")
    }
}

/// Gives the token while it may be believed.
#[derive(Clone, Debug)]
pub struct LeaderToken {}

impl TokenSource for LeaderToken {
    fn token(&self) -> Option<Token> {
        panic!("not yet")
    }
}
