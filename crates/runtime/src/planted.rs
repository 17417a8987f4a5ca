//! Deliberately broken variants of this crate, to prove that the checks catch them. Compiled only with the feature `planted`,
//! which no release has; without a choice the crate behaves as always.

use std::cell::Cell;
use std::str::FromStr;

/// A bug that can be switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Takes a pointer write whose outcome is unknown for applied.
    ConfirmUnknownPointer,
}

impl FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Bug, String> {
        match name {
            "confirm-unknown-pointer" => Ok(Bug::ConfirmUnknownPointer),
            _ => Err(format!("no bug '{name}': there is confirm-unknown-pointer")),
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
