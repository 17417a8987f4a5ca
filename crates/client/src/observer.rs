//! One election as an observer hears it: the present state first, then every change, across reconnects.

use palisade_fence::Token;

use crate::{Error, Grant};

/// One piece of news about an election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observed {
    /// Rises from one piece of news to the next, except that all events of one command share theirs.
    pub seq: u64,
    /// What happened.
    pub kind: ObservedKind,
}

/// What an observer hears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ObservedKind {
    /// The present state: always first, and again after a reconnect if it is news.
    State {
        /// `None`: nobody leads.
        leader: Option<Grant>,
    },
    /// A new leader. A hand-over is one event.
    Elected {
        /// The new leadership.
        leader: Grant,
        /// The one before; `None`: there was none.
        previous: Option<Token>,
        /// Why the one before ended; empty if there was none.
        why: String,
    },
    /// The leader changed what it proclaims.
    ValueChanged {
        /// With the new value.
        leader: Grant,
    },
    /// Nobody leads any more.
    Vacant {
        /// The leadership that ended.
        previous: Token,
        /// Why it ended.
        why: String,
    },
}

/// Hears of one election. Never goes back within a cluster.
#[derive(Debug)]
pub struct Observer {}

impl Observer {
    /// The next piece of news. Waits as long as it takes, across reconnects; an error means that it cannot go on (a name
    /// that is not allowed, another cluster). Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<Observed, Error> {
        panic!("not yet")
    }
}
