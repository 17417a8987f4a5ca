//! Levels: what the programs of a cluster have agreed on. A cluster of two versions works while it is upgraded, because the newer
//! one proposes and writes nothing that the older one does not know: what is new has a level, and is used only when the cluster has
//! reached that. A cluster's level is part of the state. Somebody raises it when every node runs a program that knows it; from then on
//! an older program cannot read what is written, and refuses to start.
//!
//! To add a command, a field of a stored message, or a rule of `apply`: raise [`KNOWN`], give the command that level in [`Op::level`],
//! and ask [`State::level`] before the field is written or the rule is heeded. The same goes for a field of a membership.

use crate::command::Op;
use crate::outcome::Reply;
use crate::{Refusal, State};

/// The level of a new cluster, and of one from before there were levels.
pub const FIRST: u32 = 1;

/// The highest that this program knows.
pub const KNOWN: u32 = 1;

impl Op {
    /// The level from which on it may be proposed. To raise the level, what the nodes know is asked instead.
    pub fn level(&self) -> u32 {
        match self {
            Op::Found { .. }
            | Op::OpenSession { .. }
            | Op::Attach { .. }
            | Op::EndSession { .. }
            | Op::CloseSession { .. }
            | Op::Campaign { .. }
            | Op::Proclaim { .. }
            | Op::Resign { .. }
            | Op::Withdraw { .. }
            | Op::Remove { .. }
            | Op::Transfer { .. }
            | Op::Keys(_)
            | Op::Compact { .. }
            | Op::RaiseLevel { .. } => FIRST,
        }
    }
}

/// Raises the level. To a level that is reached, or passed, it is harmless.
pub(crate) fn raise(state: &mut State, level: u32) -> Result<Reply, Refusal> {
    let before = state.level;
    state.level = before.max(level);
    Ok(Reply::LevelRaised { before })
}
