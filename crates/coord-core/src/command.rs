//! What can be asked of the state machine. Commands are data: they were checked before they were proposed (crate `wire`),
//! and applying one never fails, so nothing here validates.

use std::collections::BTreeMap;
use std::fmt;

use palisade_fence::{ClusterId, Fence, Token};

use crate::{AttachGeneration, Serial, SessionId};

/// One command of the replicated log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Makes a repeated write take effect at most once. Heeded for proclaim, resign, put and delete; a campaign is
    /// identified by its own session and serial; the other commands are harmless to repeat.
    pub request: Option<RequestId>,
    /// The proposer's wall clock. Data for people to read; nothing is decided by it.
    pub at_unix_ms: u64,
    /// What to do.
    pub op: Op,
}

impl Command {
    /// A command without a request id.
    pub fn new(at_unix_ms: u64, op: Op) -> Command {
        Command { request: None, at_unix_ms, op }
    }
}

/// The identity of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId {
    /// The session that remembers the answer.
    pub session: SessionId,
    /// Unique within the session.
    pub serial: Serial,
    /// The client has the answers of all serials below this one: they may be forgotten.
    pub acked_below: Serial,
}

/// The operations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Gives the cluster its name: the first command of a cluster, refused afterwards.
    Found {
        /// The name, for life.
        cluster: ClusterId,
    },
    /// Opens a session and attaches it: its attach generation is 1.
    OpenSession {
        /// How long the store leader waits for a keep-alive.
        ttl_ms: u64,
        /// What the break of its stream means.
        on_disconnect: OnDisconnect,
    },
    /// Attaches a session to another stream: its attach generation rises by one.
    Attach {
        /// Which session.
        session: SessionId,
    },
    /// Ends a session, all it holds and all its candidacies.
    EndSession {
        /// Which session.
        session: SessionId,
        /// Why, for its holder and for history.
        why: EndReason,
        /// Ends it only if it was not attached again since the proposer looked.
        only_if: Option<AttachGeneration>,
    },
    /// Enters a candidate. The same election, session and candidate id: the same place.
    Campaign {
        /// The session that it lives and dies with.
        session: SessionId,
        /// Names this candidacy; from the same counter as request ids.
        serial: Serial,
        /// Which election; made if it does not exist.
        election: String,
        /// Who.
        candidate: String,
        /// What observers need to reach it once it leads.
        value: Value,
        /// Higher goes first; within one priority the first to arrive.
        priority: i32,
    },
    /// Changes the value of a leadership.
    Proclaim {
        /// Which election.
        election: String,
        /// Must be its current token.
        token: Token,
        /// The new value.
        value: Value,
    },
    /// Ends a leadership by its token. Idempotent.
    Resign {
        /// Which election.
        election: String,
        /// The leadership that is to end.
        token: Token,
        /// Who asks; `None` or another session than the holder's: somebody from outside.
        by: Option<SessionId>,
        /// Whether somebody from outside may break the clock guard of a "keep until the TTL" holder.
        force: Force,
    },
    /// Writes a key.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its new value.
        value: Vec<u8>,
        /// Write only if this is the election's current token.
        fence: Option<Fence>,
    },
    /// Removes a key; removing nothing is no error.
    Delete {
        /// The key.
        key: Vec<u8>,
        /// Remove only if this is the election's current token.
        fence: Option<Fence>,
    },
}

/// What the break of a session's stream means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnDisconnect {
    /// Nothing: the session lives until its TTL passes without a keep-alive, and its holder's clock is a safe guard.
    #[default]
    KeepUntilTtl,
    /// The session ends this long after the break unless it attached again: for users who fence.
    ReleaseAfter {
        /// May be zero.
        ms: u64,
    },
}

/// Whether a resignation from outside acts on a holder whose clock guard it breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Force {
    /// Such a holder is left alone.
    #[default]
    No,
    /// It acts at once; the clock guard does not hold.
    Yes,
}

/// Why a leadership or a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndReason {
    /// The holder gave the leadership up.
    Resigned,
    /// The client closed the session.
    Closed,
    /// The session's TTL passed without a keep-alive.
    Expired,
    /// The session's stream broke, and it did not attach again in time.
    Disconnected,
    /// Somebody other than the holder ended it.
    Removed,
    /// The cluster was restored from a backup.
    Restored,
}

impl EndReason {
    /// The word that is sent, printed and kept.
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::Resigned => "resigned",
            EndReason::Closed => "closed",
            EndReason::Expired => "expired",
            EndReason::Disconnected => "disconnected",
            EndReason::Removed => "removed",
            EndReason::Restored => "restored",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What observers need to reach a leader.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Value {
    /// Empty until the leader has proclaimed one.
    pub address: String,
    /// Further addresses, by the name of the component.
    pub components: BTreeMap<String, String>,
    /// Anything else, opaque.
    pub data: Vec<u8>,
}
