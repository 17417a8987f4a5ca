//! What a node applied, as its audit tells: the truth beside what clients are told.

use std::fmt;

use palisade_coord_core::keys::op::Delete;
use palisade_coord_core::{Command, EndReason, Event, Grant, Guard, KeyOp, Keys, Op, Outcome, Reply};
use palisade_fence::{Fence, Token};

/// A transaction is named by its first condition: that this and its name is no key, which nobody makes.
pub const NAME_OF_TXN: &str = "txn/";

/// One command as one node applied it.
#[derive(Clone, PartialEq, Eq)]
pub struct Applied {
    /// Which node.
    pub node: usize,
    /// The command's place in the order of everything.
    pub seq: u64,
    /// What was asked.
    pub command: Command,
    /// What came of it.
    pub outcome: Outcome,
    /// Of the state after it, at some `seq`s.
    pub digest: Option<u64>,
}

/// The end of a leadership, or its beginning, or both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change<'a> {
    /// Which election.
    pub election: &'a str,
    /// The leadership that ended, and why.
    pub ended: Option<(Token, EndReason)>,
    /// The leadership that began.
    pub began: Option<&'a Grant>,
}

impl Applied {
    /// Whether it changed anything: a refusal did not, nor did an answer out of the memory of answers.
    pub fn took_effect(&self) -> bool {
        !self.outcome.events.is_empty()
    }

    /// The elections whose leader it changed.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.outcome.events.iter().filter_map(|event| match event {
            Event::Elected { grant, previous } => {
                Some(Change { election: &grant.election, ended: *previous, began: Some(grant) })
            }
            Event::Vacant { election, previous, why } => {
                Some(Change { election, ended: Some((*previous, *why)), began: None })
            }
            _ => None,
        })
    }

    /// The name of the write that it carries out, if it has one: the value of a put, or what a transaction asks for first.
    pub fn write(&self) -> Option<&str> {
        match &self.command.op {
            Op::Keys(KeyOp::Put(put)) => std::str::from_utf8(put.value.as_deref()?).ok(),
            Op::Keys(KeyOp::Txn(txn)) => match &txn.compare.first()?.keys {
                Keys::One(key) => std::str::from_utf8(key).ok()?.strip_prefix(NAME_OF_TXN),
                Keys::Span { .. } | Keys::From(_) => None,
            },
            _ => None,
        }
    }

    /// The key that it was asked to remove, if that is all it was asked to do.
    pub fn removal(&self) -> Option<&[u8]> {
        match &self.command.op {
            Op::Keys(KeyOp::Delete(Delete { keys: Keys::One(key), .. })) => Some(key),
            _ => None,
        }
    }

    /// Whether it was asked to write or to remove keys.
    pub fn is_write(&self) -> bool {
        matches!(&self.command.op, Op::Keys(KeyOp::Put(_) | KeyOp::Delete(_) | KeyOp::Txn(_)))
    }

    /// The fence that it was asked to heed.
    pub fn fence(&self) -> Option<&Fence> {
        match &self.command.op {
            Op::Keys(KeyOp::Put(put)) => put.fence.as_ref(),
            Op::Keys(KeyOp::Delete(delete)) => delete.fence.as_ref(),
            Op::Keys(KeyOp::Txn(txn)) => txn.fence.as_ref(),
            _ => None,
        }
    }

    /// If somebody asks who is not the holder: how far he goes. One who names a session is its client, and ends what is its own.
    pub fn guard_of_outsider(&self) -> Option<Guard> {
        match &self.command.op {
            Op::Resign { by: None, guard, .. }
            | Op::Remove { by: None, guard, .. }
            | Op::Transfer { by: None, guard, .. }
            | Op::CloseSession { guard, .. } => Some(*guard),
            _ => None,
        }
    }

    /// Under what name it is counted, if it is.
    pub fn counts_as(&self) -> Option<&'static str> {
        match (&self.command.op, &self.outcome.reply) {
            (Op::OpenSession { .. }, Ok(Reply::SessionOpened { .. })) => Some("sessions"),
            (Op::EndSession { why: EndReason::Expired, .. }, Ok(_)) => Some("sessions expired"),
            (Op::EndSession { why: EndReason::Disconnected, .. }, Ok(_)) => Some("sessions released"),
            (Op::Transfer { .. } | Op::Resign { .. } | Op::Remove { .. }, Ok(Reply::Requested { .. })) => {
                Some("leaders asked to end")
            }
            (Op::CloseSession { .. }, Ok(Reply::Requested { .. })) => Some("sessions asked to end"),
            (Op::Transfer { .. }, Ok(Reply::Transferred)) => Some("leaderships transferred"),
            (Op::Withdraw { .. }, Ok(Reply::Withdrawn { already: false })) => Some("candidacies withdrawn"),
            (Op::Remove { .. }, Ok(Reply::Withdrawn { .. })) => Some("candidacies removed"),
            (Op::Keys(_) | Op::Proclaim { .. }, Ok(_)) if self.outcome.seq.get() < self.seq => {
                Some("answers remembered")
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Applied {
    /// Keys and values as text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "applied {}: ", self.seq)?;
        match &self.command.op {
            Op::Keys(KeyOp::Put(put)) => {
                let key = String::from_utf8_lossy(&put.key);
                write!(f, "put {key} = {:?} under {:?}", self.write(), put.fence)?;
            }
            op => write!(f, "{op:?}")?,
        }
        write!(f, " for {:?}: {:?} ({})", self.command.request, self.outcome.reply, self.outcome.revision)
    }
}
