//! Who led an election before, and how new a read is to be.

use palisade_fence::Token;
use palisade_wire::coord::v1;

use crate::requests::Repeat;
use crate::{Error, ErrorKind, Header};

/// What a read has at least. Either way a client never goes back: an answer from before what it has seen is asked elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Reading {
    /// Everything that was acknowledged to anybody before it.
    #[default]
    Linearizable,
    /// What the asked node has applied: from any node, also without a quorum.
    Serializable,
}

impl Reading {
    pub(crate) fn is_serializable(self) -> bool {
        self == Reading::Serializable
    }

    pub(crate) fn repeat(self) -> Repeat {
        match self {
            Reading::Linearizable => Repeat::Read,
            Reading::Serializable => Repeat::ReadAnywhere,
        }
    }
}

/// Who led an election before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// As of this moment.
    pub header: Header,
    /// Oldest first.
    pub reigns: Vec<Reign>,
    /// Every leadership that ended after this `seq` is there; 0: all there ever were.
    pub complete_after_seq: u64,
}

/// A leadership that has ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reign {
    /// Its fencing token.
    pub token: Token,
    /// Who held it.
    pub candidate: String,
    /// For which session.
    pub session: u64,
    /// Of the command that granted it.
    pub since_seq: u64,
    /// Of the command that ended it.
    pub until_seq: u64,
    /// By the wall clock of the store leader of the time; for people.
    pub since_unix_ms: u64,
    /// Likewise, of another store leader perhaps: it may be earlier.
    pub until_unix_ms: u64,
    /// Why it ended: resigned, closed, expired, disconnected, transferred, removed, restored.
    pub why: String,
}

impl History {
    pub(crate) fn of(reply: v1::HistoryReply) -> Result<History, Error> {
        let reign = |it: v1::Reign| {
            let bad = || Error::not_applied(ErrorKind::BadAnswer, "the store sent a leadership without a valid token");
            Ok(Reign {
                token: Token::from_wire(it.token).ok_or_else(bad)?,
                candidate: it.candidate_id,
                session: it.session,
                since_seq: it.since_seq,
                until_seq: it.until_seq,
                since_unix_ms: it.since_unix_ms,
                until_unix_ms: it.until_unix_ms,
                why: it.why,
            })
        };
        Ok(History {
            header: Header::of(reply.header.as_ref()),
            reigns: reply.reigns.into_iter().map(reign).collect::<Result<_, Error>>()?,
            complete_after_seq: reply.complete_after_seq,
        })
    }
}
