//! What processes see, as data: the only thing that invariants judge.

mod applied;
mod counted;
mod keys;
mod ledger;
mod register;
mod restoration;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use palisade_fence::Token;

use crate::plan::Who;

pub use applied::{Applied, Change, NAME_OF_TXN};
pub use counted::Counted;
pub use keys::{FoundKey, Ranged, Unreadable};
pub use ledger::{LedgerFact, Sender, Step};
pub use register::{Deed, Ended, Found};
pub use restoration::{Beginning, Place, Restoration};
pub use watched::{WatchNews, WatchedKey};

/// Something that a process saw.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A candidate was told that it leads.
    Granted {
        /// Which election.
        election: String,
        /// Who.
        candidate: String,
        /// Under which token.
        token: Token,
        /// Of the command that granted it.
        seq: u64,
    },
    /// An observer begins, or comes back.
    ObserveBegan {
        /// Which observer.
        observer: String,
        /// Which election.
        election: String,
        /// What is to follow: all after this `seq`. `None`: the present state first.
        after: Option<u64>,
        /// The generation of the cluster in which that `seq` was.
        generation: Option<u32>,
    },
    /// An observer was told something about an election.
    Observed {
        /// Which observer.
        observer: String,
        /// Which election.
        election: String,
        /// Of the command that it is about, or of the state.
        seq: u64,
        /// What.
        news: News,
    },
    /// A candidate believes that it leads, at least until the given time unless it says otherwise.
    Believes {
        /// Which election.
        election: String,
        /// Who.
        candidate: String,
        /// Under which token.
        token: Token,
        /// Its deadline, in simulated time.
        until: Duration,
    },
    /// A holder was told that somebody wants its leadership to end.
    EndAsked {
        /// Who.
        candidate: String,
        /// Under which token it leads.
        token: Token,
        /// Who is to lead then, if somebody was named.
        to: Option<String>,
    },
    /// Somebody asked who led an election before.
    HistoryTold {
        /// Which election.
        election: String,
        /// Of the state that was read.
        seq: u64,
        /// Oldest first.
        reigns: Vec<Reigned>,
    },
    /// A node answered a read that may be stale.
    ReadStale {
        /// Who asked.
        by: Who,
        /// Which node.
        node: usize,
        /// Of the state that was read.
        seq: u64,
    },
    /// Somebody asked who leads an election.
    LeaderTold {
        /// Which election.
        election: String,
        /// Of the state that was read.
        seq: u64,
        /// `None`: nobody.
        token: Option<Token>,
    },
    /// A candidate no longer believes that it leads, and did not give it up by itself.
    Lost {
        /// Which election.
        election: String,
        /// Who.
        candidate: String,
        /// Under which token it led.
        token: Token,
    },
    /// A candidate no longer believes that it leads: it resigned.
    Resigns {
        /// Which election.
        election: String,
        /// Who.
        candidate: String,
        /// Under which token it led.
        token: Token,
    },
    /// A process was told that a session which it closed has ended.
    SessionClosed {
        /// Which session.
        session: u64,
    },
    /// A write under a token was acknowledged.
    WroteFenced {
        /// Which election.
        election: String,
        /// The token.
        token: Token,
        /// Of the command that wrote.
        seq: u64,
    },
    /// A write under a token was refused as stale.
    RefusedFenced {
        /// The token of the write.
        token: Token,
        /// The election's current one.
        current: Option<Token>,
    },
    /// A process has a session, which its client keeps alive.
    SessionOpened {
        /// Its id.
        session: u64,
        /// Whose it is.
        by: Who,
    },
    /// It is about to give the session up, or has lost it.
    SessionLeft {
        /// Its id.
        session: u64,
    },
    /// A write of a register begins.
    WriteBegan {
        /// Its name.
        write: String,
        /// The register.
        key: String,
        /// What it does.
        deed: Deed,
        /// The session under which it has a request id.
        session: Option<u64>,
    },
    /// A write of a register has ended, as far as its writer knows. An unknown one may end again, with the proof that it was
    /// applied, and a repeated request is answered more than once.
    WriteEnded {
        /// Its name.
        write: String,
        /// What is known.
        ended: Ended,
    },
    /// A linearizable read of a register begins.
    ReadBegan {
        /// Its name.
        read: String,
    },
    /// A linearizable read of a register was answered.
    ReadEnded {
        /// Its name.
        read: String,
        /// The register.
        key: String,
        /// Of the state that was read.
        seq: u64,
        /// Of that state.
        revision: u64,
        /// `None`: no such key.
        found: Option<Found>,
    },
    /// A read of many keys was answered.
    Ranged(Ranged),
    /// Likewise, and it was refused.
    RangeRefused {
        /// Its name.
        read: String,
        /// The revision as of which keys were asked for.
        asked: u64,
        /// Why.
        why: Unreadable,
        /// Of the state that refused it.
        seq: u64,
    },
    /// A watcher of keys begins.
    WatchBegan {
        /// Its name.
        watcher: String,
        /// What its keys begin with.
        prefix: String,
        /// The first revision that it asks for; `None`: from now on.
        asked: Option<u64>,
    },
    /// It is told something.
    Watched {
        /// Its name.
        watcher: String,
        /// What.
        news: WatchNews,
    },
    /// It goes away.
    WatchEnded {
        /// Its name.
        watcher: String,
    },
    /// A node leads the store and has applied its own first entry.
    LeadsStore {
        /// Raft's term.
        term: u64,
        /// Which node.
        node: u64,
    },
    /// A node applied a command. Told by its audit, not by what it answers to anybody.
    Applied(Arc<Applied>),
    /// A node's state was replaced by that of a snapshot; likewise.
    Restored {
        /// Which node.
        node: usize,
        /// Of the state.
        seq: u64,
        /// Of the state.
        digest: u64,
        /// If it has no sessions: what it has.
        beginning: Option<Arc<Beginning>>,
    },
    /// A backup was saved, whole. It is a read of everything.
    BackedUp {
        /// Its name.
        read: String,
        /// Of the state in it.
        seq: u64,
        /// Likewise.
        revision: u64,
    },
    /// A node of before a restore leads the store, although nobody may follow it.
    LeadsOutlived {
        /// Which.
        node: u64,
    },
    /// The members are these from an entry of the log on, as a node applied it; likewise.
    Members {
        /// Which node.
        node: usize,
        /// Of the entry.
        index: u64,
        /// By id.
        members: Vec<MemberSeen>,
    },
    /// A node starts, with a program that knows levels up to this one.
    Runs {
        /// Which.
        node: usize,
        /// The highest that it knows.
        level: u32,
    },
    /// Somebody is about to change who belongs to the cluster, or who leads the store.
    ReshapeAsked,
    /// That was answered as done.
    Reshaped {
        /// What.
        what: Reshaped,
        /// Of the entry that made the members what they are.
        index: u64,
    },
    /// Something about ledgers.
    Ledger(LedgerFact),
    /// A JobManager leads the others, and its components have started.
    LeadsJobs {
        /// Under which token.
        token: Token,
    },
    /// A job was acknowledged.
    JobSubmitted {
        /// Which.
        job: u64,
    },
    /// What a JobManager said of a job.
    JobSeen {
        /// Which.
        job: u64,
        /// Under which token that JobManager leads.
        token: u64,
        /// The job's attempt under it.
        attempt: u64,
        /// The checkpoint that the attempt began from.
        restored: Option<u64>,
        /// TaskExecutors that are registered there.
        executors: u32,
    },
    /// A job has ended.
    JobEnded {
        /// Which.
        job: u64,
        /// Its result, or why it has none.
        counted: Result<Counted, String>,
        /// What is in its input.
        expected: Counted,
    },
}

/// A member, as a node applied it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberSeen {
    /// Its id.
    pub id: u64,
    /// Its store; 0: it has not joined.
    pub store: u64,
    /// Whether it votes.
    pub votes: bool,
}

/// What was done to the cluster, by node id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reshaped {
    /// A learner more.
    Added(u64),
    /// A voter more.
    Promoted(u64),
    /// A node less.
    Removed(u64),
    /// It leads the store.
    Transferred(u64),
}

/// A leadership that is over, as it was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reigned {
    /// Its token.
    pub token: Token,
    /// Who led.
    pub candidate: String,
    /// The `seq` of its grant.
    pub since: u64,
    /// The `seq` of its end.
    pub until: u64,
    /// Why it ended.
    pub why: String,
}

impl From<LedgerFact> for Fact {
    fn from(fact: LedgerFact) -> Fact {
        Fact::Ledger(fact)
    }
}

/// What an observer is told of an election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// The present state: at first, and wherever changes may have been missed.
    State(Option<Token>),
    /// A new leadership, and the one that it follows.
    Elected(Token, Option<Token>),
    /// A leader proclaimed another value.
    Proclaimed(Token),
    /// This leadership ended, and there is none.
    Vacant(Token),
}

impl News {
    /// Who leads after it.
    pub fn leads(&self) -> Option<Token> {
        match self {
            News::State(token) => *token,
            News::Elected(token, _) | News::Proclaimed(token) => Some(*token),
            News::Vacant(_) => None,
        }
    }
}

impl Fact {
    /// Under what name it is counted, if it is.
    pub fn counts_as(&self) -> Option<&'static str> {
        Some(match self {
            Fact::Granted { .. } => "grants",
            Fact::Lost { .. } => "leaderships lost",
            Fact::Resigns { .. } => "resignations",
            Fact::SessionClosed { .. } => "sessions closed",
            Fact::WroteFenced { .. } => "fenced writes",
            Fact::RefusedFenced { .. } => "stale writes refused",
            Fact::WriteEnded { ended: Ended::Applied { .. }, .. } => "writes",
            Fact::WriteEnded { ended: Ended::NotApplied, .. } => "writes not applied",
            Fact::WriteEnded { ended: Ended::Unknown, .. } => "unknown writes",
            Fact::ReadEnded { .. } => "reads",
            Fact::Ranged(Ranged { asked: Some(_), .. }) => "reads of the past",
            Fact::Ranged(Ranged { found, .. }) if found.iter().any(|found| found.session != 0) => "bound keys seen",
            Fact::Ranged(_) => "reads of many keys",
            Fact::RangeRefused { why: Unreadable::Compacted, .. } => "reads of what was compacted",
            Fact::RangeRefused { why: Unreadable::Future, .. } => "reads of the future",
            Fact::Watched { news: WatchNews::Changed { .. }, .. } => "revisions watched",
            Fact::Watched { news: WatchNews::Resumed { .. }, .. } => "watchers that went on",
            Fact::Watched { news: WatchNews::Gap { .. }, .. } => "watchers told of a gap",
            Fact::Watched { news: WatchNews::Started { .. } | WatchNews::Progress { .. }, .. } => return None,
            Fact::WatchBegan { .. } | Fact::WatchEnded { .. } => return None,
            Fact::LeadsStore { .. } => "store leaders",
            Fact::Ledger(fact) => return fact.counts_as(),
            Fact::Restored { .. } => "snapshots restored",
            Fact::BackedUp { .. } => "backups saved",
            Fact::LeadsOutlived { .. } => return None,
            Fact::Reshaped { what: Reshaped::Added(_), .. } => "nodes added",
            Fact::Reshaped { what: Reshaped::Promoted(_), .. } => "nodes promoted",
            Fact::Reshaped { what: Reshaped::Removed(_), .. } => "nodes removed",
            Fact::Reshaped { what: Reshaped::Transferred(_), .. } => "leaderships of the store transferred",
            Fact::Members { .. } | Fact::Runs { .. } | Fact::ReshapeAsked => return None,
            Fact::ObserveBegan { after: Some(_), .. } => "observers that came back",
            Fact::ObserveBegan { after: None, .. } => return None,
            Fact::Observed { news: News::State(_), .. } => "observers told the state",
            Fact::Observed { .. } => "changes observed",
            Fact::Applied(applied) => return applied.counts_as(),
            Fact::Believes { .. } | Fact::WriteBegan { .. } | Fact::ReadBegan { .. } => return None,
            Fact::EndAsked { .. } => "holders told of a request",
            Fact::HistoryTold { reigns, .. } if !reigns.is_empty() => "histories told",
            Fact::ReadStale { .. } => "stale reads",
            Fact::HistoryTold { .. } | Fact::LeaderTold { .. } => return None,
            Fact::SessionOpened { .. } | Fact::SessionLeft { .. } => return None,
            Fact::LeadsJobs { .. } => "leaderships over jobs",
            Fact::JobEnded { .. } => "jobs",
            Fact::JobSeen { restored: Some(_), attempt, .. } if *attempt == 1 => "jobs taken up from a checkpoint",
            Fact::JobSeen { restored: Some(_), .. } => "restarts from a checkpoint",
            Fact::JobSeen { .. } | Fact::JobSubmitted { .. } => return None,
        })
    }
}
