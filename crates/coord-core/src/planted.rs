//! Deliberately broken variants of this crate, to prove that the checks catch them. Compiled only with the feature `planted`,
//! which no release has; without a choice the crate behaves as always.

use std::cell::Cell;
use std::str::FromStr;

/// A bug that can be switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Fills a vacated election twice in one command.
    GrantTwice,
    /// Grants under the token that was granted last.
    TokenNotRaised,
    /// Accepts any fence.
    SkipFenceCheck,
}

impl FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Bug, String> {
        match name {
            "grant-twice" => Ok(Bug::GrantTwice),
            "token-not-raised" => Ok(Bug::TokenNotRaised),
            "skip-fence-check" => Ok(Bug::SkipFenceCheck),
            _ => Err(format!("no bug '{name}': there are grant-twice, token-not-raised, skip-fence-check")),
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
