//! What a command brought about: the answer to whoever asked, and the events for everybody else.
//! A refusal is an outcome like any other; it changed nothing but `seq` (and the memory of answers).

use palisade_fence::Token;

use crate::command::{EndReason, OnDisconnect, Value};
use crate::keys::op::KeyReply;
use crate::state::{HandOver, Wish};
use crate::{AttachGeneration, Revision, Seq, Serial, SessionId};

/// What [`crate::apply()`] returns.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Outcome {
    /// Where the command stands in the order of everything. An answer from the memory of answers carries the `seq` and
    /// the `revision` of the command that took effect, not of its repetition; its `events` are empty. The state's own
    /// `seq` rises by one in every case.
    pub seq: Seq,
    /// After the command.
    pub revision: Revision,
    /// The answer.
    pub reply: Result<Reply, Refusal>,
    /// What changed, in order: ends first, then what filled the vacated places.
    pub events: Vec<Event>,
}

/// A candidate that holds an election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Which election.
    pub election: String,
    /// Who holds it.
    pub candidate: String,
    /// The session that it lives with.
    pub session: SessionId,
    /// The campaign that it came from.
    pub serial: Serial,
    /// The fencing token: above every token of this cluster that was granted before.
    pub token: Token,
    /// The command that granted it.
    pub seq: Seq,
    /// The proposer's wall clock at that command. For people to read.
    pub since_unix_ms: u64,
    /// What observers need to reach it.
    pub value: Value,
}

/// What others want of a session that keeps its leaderships until its TTL.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// Of the session itself.
    pub session: Option<Wish>,
    /// Of its leaderships, by serial: each is to end.
    pub leaderships: Vec<(Serial, HandOver)>,
}

/// A candidacy that still waits, as told to a session that attaches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Which election.
    pub election: String,
    /// Under which id.
    pub candidate: String,
    /// The campaign that it came from.
    pub serial: Serial,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The cluster has its name.
    Founded,
    /// A session is open and attached.
    SessionOpened {
        /// Its id.
        session: SessionId,
        /// Where its attach generations start.
        attach: AttachGeneration,
    },
    /// A session is attached, with what it has.
    Attached {
        /// Its id.
        session: SessionId,
        /// One more than before.
        attach: AttachGeneration,
        /// As it was opened.
        ttl_ms: u64,
        /// As it was opened.
        on_disconnect: OnDisconnect,
        /// Leaderships that it holds now, by serial.
        held: Vec<Grant>,
        /// Candidacies that wait, by serial.
        waiting: Vec<Waiting>,
        /// What others asked of it, so that it is told again after a failover.
        asked: Asked,
    },
    /// The session has ended.
    SessionEnded,
    /// The candidate has its place.
    Campaigned {
        /// Present if it leads now; else it waits.
        grant: Option<Grant>,
    },
    /// The value is changed.
    Proclaimed,
    /// The token does not lead.
    Resigned {
        /// It no longer led before; nothing changed.
        already: bool,
    },
    /// The candidacy does not stand, and never will again.
    Withdrawn {
        /// It did not stand before.
        already: bool,
    },
    /// The named candidate leads.
    Transferred,
    /// The holder was asked, and acts when it is ready.
    Requested {
        /// The holder's session. If it is renewed no more, it will lose all of [`crate::State::held_by`].
        session: SessionId,
    },
    /// What came of an operation on keys.
    Keys(KeyReply),
    /// The past of keys is forgotten.
    Compacted,
    /// The cluster has at least the level that was asked for.
    LevelRaised {
        /// What it had.
        before: u32,
    },
}

/// Why nothing was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The cluster has a name already.
    AlreadyFounded,
    /// The session has ended, or never was.
    SessionEnded {
        /// Which session.
        session: SessionId,
    },
    /// The id that the caller gave names a live session.
    SessionExists {
        /// Which session.
        session: SessionId,
    },
    /// The session was attached again since the proposer looked: it lives.
    AttachChanged {
        /// Which session.
        session: SessionId,
        /// Its attach generation now.
        attach: AttachGeneration,
    },
    /// Nobody ever campaigned in it.
    ElectionNotFound {
        /// The name asked for.
        election: String,
    },
    /// The token is not the election's current one.
    StaleToken {
        /// Which election.
        election: String,
        /// The current token; `None`: no leader.
        current: Option<Token>,
    },
    /// The candidate id waits or leads for another live session.
    CandidateExists {
        /// Which election.
        election: String,
        /// The id.
        candidate: String,
    },
    /// Nobody stands under this id, or not where the request needs it: only a candidate that waits can be handed over to.
    CandidateNotFound {
        /// Which election.
        election: String,
        /// The id.
        candidate: String,
    },
    /// Ending this leadership from outside would break its holder's clock guard.
    HolderKeepsUntilTtl {
        /// Which election.
        election: String,
        /// The leadership.
        token: Token,
    },
    /// The answer to this request id is no longer remembered: whether it was applied is unknown.
    Forgotten {
        /// The serial asked for.
        serial: Serial,
    },
    /// The serial was used for another request, or names a candidacy that has ended.
    SerialReused {
        /// The serial.
        serial: Serial,
    },
    /// What was before a revision is no longer kept.
    Compacted {
        /// The revision asked for.
        revision: Revision,
        /// The first that can be asked for.
        compacted: Revision,
    },
    /// The revision has not come yet.
    FutureRevision {
        /// The revision asked for.
        revision: Revision,
        /// The last that there is.
        current: Revision,
    },
    /// A write that keeps a key's value or its session needs the key.
    KeyNotFound {
        /// Which key.
        key: Vec<u8>,
    },
    /// The state is full.
    Limit {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
}

/// What changed, for observers and for the session's own stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A candidate leads now. A vacate-and-grant is one event.
    Elected {
        /// The new leadership.
        grant: Grant,
        /// The leadership that ended by the same command, and why.
        previous: Option<(Token, EndReason)>,
    },
    /// The leader changed its value.
    ValueChanged {
        /// The leadership with its new value.
        grant: Grant,
    },
    /// A leadership ended, and nobody waited.
    Vacant {
        /// Which election.
        election: String,
        /// The leadership that ended.
        previous: Token,
        /// Why.
        why: EndReason,
    },
    /// For the holder: its leadership ended, its session lives.
    Revoked {
        /// The holder's session.
        session: SessionId,
        /// The campaign that the leadership came from.
        serial: Serial,
        /// Which election.
        election: String,
        /// The leadership that ended.
        token: Token,
        /// Why.
        why: EndReason,
    },
    /// For the candidate: it waits no more, its session lives.
    Withdrawn {
        /// The candidate's session.
        session: SessionId,
        /// The campaign.
        serial: Serial,
        /// Which election.
        election: String,
        /// Why.
        why: EndReason,
    },
    /// For the holder: somebody asks it to end a leadership when it is ready.
    EndRequested {
        /// The holder's session.
        session: SessionId,
        /// The campaign that the leadership came from.
        serial: Serial,
        /// Which election.
        election: String,
        /// The leadership, and who is to have it.
        hand_over: HandOver,
    },
    /// For the session's client, and for whoever renews the session: what somebody wants of it now.
    SessionAsked {
        /// Which session.
        session: SessionId,
        /// Never less than was asked before.
        wish: Wish,
    },
    /// A session ended, and with it all that it held and all its candidacies.
    SessionEnded {
        /// Which session.
        session: SessionId,
        /// Why.
        why: EndReason,
    },
    /// A key was written or removed.
    KeyChanged {
        /// The key.
        key: Vec<u8>,
        /// The revision of the change.
        revision: Revision,
        /// Its version after the write; `None`: removed.
        version: Option<u64>,
    },
}
