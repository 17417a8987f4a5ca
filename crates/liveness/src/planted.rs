//! Deliberately broken variants of this crate, to prove that the checks catch them. Compiled only with the feature `planted`,
//! which no release has; without a choice the crate behaves as always.

use std::cell::Cell;
use std::str::FromStr;

/// A bug that can be switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Acknowledges a keep-alive as it arrives.
    AckWithoutQuorumRound,
    /// Proposes an end without the attach generation that it rests on.
    ExpireWithoutCondition,
}

impl FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Bug, String> {
        match name {
            "ack-without-quorum-round" => Ok(Bug::AckWithoutQuorumRound),
            "expire-without-condition" => Ok(Bug::ExpireWithoutCondition),
            _ => Err(format!("no bug '{name}': there are ack-without-quorum-round, expire-without-condition")),
        }
    }
}

thread_local! {
    static CHOSEN: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Switches one bug on for this thread; `None` switches it off. The simulation runs a whole cluster on one thread.
pub fn choose(bug: Option<Bug>) {
    CHOSEN.set(bug);
}

/// Whether this bug is on.
pub(crate) fn is(bug: Bug) -> bool {
    CHOSEN.get() == Some(bug)
}
