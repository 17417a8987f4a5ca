//! What processes see, as data: the only thing that invariants judge.

mod ledger;

use std::time::Duration;

use palisade_fence::Token;

pub use ledger::{LedgerFact, Sender, Step};

/// Something that a process saw.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A candidate was told that it leads.
    Granted {
        /// Who.
        candidate: String,
        /// Under which token.
        token: Token,
        /// Of the command that granted it.
        seq: u64,
    },
    /// An observer was told who leads.
    Elected {
        /// Who.
        candidate: String,
        /// Under which token.
        token: Token,
        /// Of the command that granted it.
        seq: u64,
    },
    /// A candidate believes that it leads, at least until the given time unless it says otherwise.
    Believes {
        /// Who.
        candidate: String,
        /// Under which token.
        token: Token,
        /// Its deadline, in simulated time.
        until: Duration,
    },
    /// A candidate no longer believes that it leads, and did not give it up by itself.
    Lost {
        /// Who.
        candidate: String,
        /// Under which token it led.
        token: Token,
    },
    /// A candidate is about to resign.
    Resigns {
        /// Who.
        candidate: String,
        /// Under which token it led.
        token: Token,
    },
    /// A write under a token was acknowledged.
    WroteFenced {
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
    /// A write of a rising number was acknowledged.
    Acknowledged {
        /// The key.
        key: String,
        /// The number.
        number: u64,
    },
    /// A write of a rising number began; its outcome may stay unknown.
    Attempted {
        /// The key.
        key: String,
        /// The number.
        number: u64,
    },
    /// A linearizable read returned a number (0: no such key).
    Read {
        /// The key.
        key: String,
        /// The number.
        number: u64,
        /// The highest number that had been acknowledged when the read began.
        acknowledged_before: u64,
    },
    /// A node leads the store and has applied its own first entry.
    LeadsStore {
        /// Raft's term.
        term: u64,
        /// Which node.
        node: u64,
    },
    /// Something about ledgers.
    Ledger(LedgerFact),
}

impl From<LedgerFact> for Fact {
    fn from(fact: LedgerFact) -> Fact {
        Fact::Ledger(fact)
    }
}

impl Fact {
    /// Under what name it is counted, if it is.
    pub fn counts_as(&self) -> Option<&'static str> {
        Some(match self {
            Fact::Granted { .. } => "grants",
            Fact::Lost { .. } => "leaderships lost",
            Fact::Resigns { .. } => "resignations",
            Fact::WroteFenced { .. } => "fenced writes",
            Fact::RefusedFenced { .. } => "stale writes refused",
            Fact::Acknowledged { .. } => "writes",
            Fact::Read { .. } => "reads",
            Fact::LeadsStore { .. } => "store leaders",
            Fact::Ledger(fact) => return fact.counts_as(),
            Fact::Elected { .. } | Fact::Believes { .. } | Fact::Attempted { .. } => return None,
        })
    }
}
