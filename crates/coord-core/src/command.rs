//! What can be asked of the state machine. Commands are data: they were checked before they were proposed (crate `wire`),
//! and applying one never fails, so nothing here validates.

use std::collections::BTreeMap;
use std::fmt;

use palisade_fence::{ClusterId, Token};

use crate::keys::op::KeyOp;
use crate::{AttachGeneration, Revision, Serial, SessionId};

/// One command of the replicated log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Makes a repeated write take effect at most once. Heeded by every operation but these: a campaign is identified by
    /// its own session and serial; founding, attaching, withdrawing and raising the level are harmless to repeat.
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
    /// Opens a session and attaches it.
    OpenSession {
        /// `None`: the store chooses, and never chooses an id again. Else an id made by [`SessionId::given`], which must not
        /// be in use.
        id: Option<SessionId>,
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
    /// Somebody asks for the end of a session. Its client ends it by [`Op::EndSession`].
    CloseSession {
        /// Which session.
        session: SessionId,
        /// For a session that keeps leaderships until its TTL.
        guard: Guard,
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
        /// For a holder that somebody from outside asks.
        guard: Guard,
    },
    /// Ends a candidacy of a session, waiting or leading, and refuses the campaign of this serial should it come later.
    /// Idempotent.
    Withdraw {
        /// The candidate's session, which asks.
        session: SessionId,
        /// The campaign.
        serial: Serial,
    },
    /// Ends a candidacy by the candidate's id: at once while it waits, else as resigning does.
    Remove {
        /// Which election.
        election: String,
        /// Who is to go.
        candidate: String,
        /// As for resigning.
        by: Option<SessionId>,
        /// As for resigning.
        guard: Guard,
    },
    /// Hands a leadership over to a candidate that waits.
    Transfer {
        /// Which election.
        election: String,
        /// The leadership that is to end; `None`: whichever there is.
        token: Option<Token>,
        /// Who is to lead.
        to: String,
        /// As for resigning.
        by: Option<SessionId>,
        /// As for resigning.
        guard: Guard,
    },
    /// Reads and writes keys.
    Keys(KeyOp),
    /// Forgets the past of keys before a revision.
    Compact {
        /// From it on, keys can be read and watched.
        revision: Revision,
    },
    /// Raises the level of the cluster: see [`crate::level`]. Proposed only when every node knows it.
    RaiseLevel {
        /// Harmless if it is reached.
        level: u32,
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

/// What becomes of the clock guard of a *keep until the TTL* holder when somebody else wants its leadership to end. Other
/// holders have none: they fence, and are ended at once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Guard {
    /// The request is refused.
    #[default]
    Refuse,
    /// The request is kept and told to the holder, which ends its leadership when it is ready.
    Ask,
    /// As [`Guard::Ask`]; also the holder's session is renewed no more, so that it ends with its TTL at the latest.
    AskAndStopRenewing,
    /// It is broken: the leadership ends at once, and the holder's clock does not keep it from acting on.
    Break,
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
    /// The holder handed it over to a candidate that was named.
    Transferred,
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
            EndReason::Transferred => "transferred",
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
