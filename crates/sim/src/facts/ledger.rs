//! What ledgers and those who call them see.

use std::time::Duration;

use palisade_fence::Token;

use crate::ledger::{Form, Message, Method, Reply};

/// A message that is refused after so long was held up on its way: no latency adds up to that.
const HELD: Duration = Duration::from_millis(150);

/// Something that a ledger or a caller of ledgers saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LedgerFact {
    /// A ledger's guard stands there.
    Guarded {
        /// Number of the ledger.
        ledger: usize,
        /// The highest token that it accepted.
        token: Token,
    },
    /// A ledger is told by the observe stream who leads.
    Told {
        /// Number of the ledger.
        ledger: usize,
        /// The leader's token.
        token: Token,
    },
    /// A ledger that keeps its guard in a file has started again.
    Remembers {
        /// Number of the ledger.
        ledger: usize,
        /// Where its guard stands before it has heard anything.
        token: Option<Token>,
    },
    /// A message is handled: its handler was entered.
    Ran(Step),
    /// A message took effect: the first of its steps that appends or answers what it read.
    Took {
        /// The step.
        step: Step,
        /// Where it appended; `None`: it read.
        appended: Option<u64>,
    },
    /// A message is sent, or sent again.
    Sent {
        /// Which.
        message: Message,
        /// By whom.
        by: Sender,
    },
    /// Its sender knows what became of a message.
    Replied {
        /// Which.
        message: Message,
        /// What it knows.
        reply: Reply,
        /// How the message travelled.
        form: Form,
        /// Who sent it.
        by: Sender,
        /// How long that took.
        after: Duration,
    },
    /// The sender of tells hears that one of them was not handled; it does not hear which.
    TellRefused {
        /// Number of the ledger.
        ledger: usize,
        /// Of the sender.
        token: Token,
        /// Why.
        reply: Reply,
    },
}

/// One step of a handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Whose.
    pub message: Message,
    /// The token that the endpoint runs it under.
    pub under: Option<Token>,
    /// Where the guard stands meanwhile.
    pub guard: Option<Token>,
}

/// Who sends a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// The leader, once.
    Leader,
    /// Somebody who heard it.
    Repeater,
    /// Somebody who puts a token in it that nobody was granted.
    Forger,
}

impl LedgerFact {
    /// Under what name it is counted, if it is.
    pub fn counts_as(&self) -> Option<&'static str> {
        Some(match self {
            LedgerFact::Took { step, .. } => match step.message.method {
                Method::Append => "appends",
                Method::Note => "notes",
                Method::AppendLater => "appends in two steps",
                Method::Read(_) => "reads of ledgers",
            },
            LedgerFact::Sent { by: Sender::Repeater, .. } => "messages repeated",
            LedgerFact::Replied { reply: Reply::Stale, by: Sender::Repeater, .. } => "repeated messages refused",
            LedgerFact::Replied { reply: Reply::Stale, after, .. } if *after >= HELD => {
                "stale messages refused after they were held"
            }
            LedgerFact::Replied { reply: Reply::Stale, form: Form::Stream, .. } => "stale messages refused",
            LedgerFact::Replied { reply: Reply::Stale, form: Form::Plain, .. } => "stale plain calls refused",
            LedgerFact::TellRefused { reply: Reply::Stale, .. } => "stale tells refused",
            LedgerFact::Replied { reply: Reply::Superseded, .. } => "second steps that never came",
            LedgerFact::Guarded { .. } => "guards raised",
            LedgerFact::Remembers { token: Some(_), .. } => "guards remembered",
            LedgerFact::Sent { by: Sender::Forger, .. } => "tokens forged",
            LedgerFact::Replied { reply: Reply::NotHandled, by: Sender::Forger, .. } => "forged tokens refused",
            LedgerFact::Told { .. }
            | LedgerFact::Remembers { .. }
            | LedgerFact::Ran(_)
            | LedgerFact::Sent { .. }
            | LedgerFact::Replied { .. }
            | LedgerFact::TellRefused { .. } => {
                return None;
            }
        })
    }
}
