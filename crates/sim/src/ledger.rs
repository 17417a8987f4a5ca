//! The fenced service that the simulation calls: a list that leaders append to, declared in `proto/ledger.proto`. Here is what
//! both sides know of it; the endpoint is [`crate::hosts::ledger`], its callers are `caller` (the real gateway, and plain gRPC)
//! and `raw` (frames of anybody's making).

pub(crate) mod caller;
pub(crate) mod plain;
pub(crate) mod raw;
mod tape;

use std::fmt;

use palisade_fence::Token;
use prost::Message as _;

pub(crate) use tape::Tape;

/// What is generated.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)] // generated, and not all of it is used
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/palisade.sim.v1.rs"));
}

/// The endpoint's id in every ledger's process.
pub(crate) const ENDPOINT: &str = "ledger";

/// One message of one leader to one ledger: no two are alike, except those that somebody repeats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Number of the ledger.
    pub ledger: usize,
    /// Of the leader.
    pub token: Token,
    /// Counts the leader's messages to that ledger.
    pub number: u64,
    /// What is asked for.
    pub method: Method,
}

/// What a message asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Method {
    /// Append, and answer where.
    Append,
    /// Append without an answer.
    Note,
    /// Append in a second step.
    AppendLater,
    /// Answer what stands at this position.
    Read(u64),
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}#{} of {} to ledger-{}", self.method, self.number, self.token, self.ledger)
    }
}

impl Method {
    /// As in the `.proto` file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Append => "Append",
            Method::Note => "Note",
            Method::AppendLater => "AppendLater",
            Method::Read(_) => "Read",
        }
    }
}

impl Message {
    /// What stands in the ledger for it.
    pub(crate) fn entry(&self) -> proto::Entry {
        proto::Entry { token: self.token.get(), number: self.number }
    }

    /// As it is sent.
    pub(crate) fn request(&self) -> Vec<u8> {
        match self.method {
            Method::Append | Method::Note | Method::AppendLater => self.entry().encode_to_vec(),
            Method::Read(position) => proto::ReadRequest { message: Some(self.entry()), position }.encode_to_vec(),
        }
    }

    /// What an answer to it says; `None` if it cannot be read.
    pub(crate) fn answered(&self, answer: &[u8]) -> Option<Answered> {
        Some(match self.method {
            Method::Append | Method::AppendLater => Answered::At(proto::Position::decode(answer).ok()?.position),
            Method::Note => Answered::Told,
            Method::Read(position) => Answered::found(position, proto::Entry::decode(answer).ok()?)?,
        })
    }
}

/// What a ledger answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answered {
    /// It was appended there.
    At(u64),
    /// It was noted.
    Told,
    /// There stands the message with this token and number.
    Found {
        /// Where.
        position: u64,
        /// Whose.
        token: Token,
        /// Which.
        number: u64,
    },
}

impl Answered {
    pub(crate) fn found(position: u64, entry: proto::Entry) -> Option<Answered> {
        Some(Answered::Found { position, token: Token::from_wire(entry.token)?, number: entry.number })
    }
}

/// How a message travels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Form {
    /// On the stream between two processes.
    Stream,
    /// As plain gRPC.
    Plain,
}

/// What became of a message, as its sender knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It ran.
    Answered(Answered),
    /// It surely did not run: a later leader is known there.
    Stale,
    /// It surely did not run, for another reason.
    NotHandled,
    /// It had begun; what had not happened by then never will.
    Superseded,
    /// Nobody knows.
    Unknown,
}
