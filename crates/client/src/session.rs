//! A session: this process's liveness in the store, and the campaigns that live with it.

use std::fmt;
use std::time::Duration;

use crate::{Error, Leadership, Value};

/// What a session is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionOptions {
    /// The store ends the session when it has heard nothing for this long. The server allows a range (200 ms to 10 min).
    pub ttl: Duration,
    /// What a broken connection does.
    pub on_disconnect: OnDisconnect,
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
    /// Must be 0 until priorities are built.
    pub priority: i32,
}

/// An open session. Cheap to clone; when the last handle is dropped (a [`Leadership`] holds one), the session is closed.
#[derive(Clone, Debug)]
pub struct Session {}

impl Session {
    /// Its id in the store.
    pub fn id(&self) -> u64 {
        panic!("not yet")
    }

    /// Enters an election and waits until it leads. No timeout; it survives reconnects and the death of the store leader.
    /// Dropping the future abandons the candidacy: should it be granted later, it is resigned at once.
    pub async fn campaign(&self, options: CampaignOptions) -> Result<Leadership, Error> {
        let _ = options;
        panic!("not yet")
    }

    /// Ends the session, and with it all that it holds; what it holds is lost here before the store hears of it.
    pub async fn close(&self) -> Result<(), Error> {
        panic!("not yet")
    }

    /// Resolves when the session is over. Cancelling it is harmless.
    pub async fn ended(&self) -> SessionEnd {
        panic!("not yet")
    }
}
