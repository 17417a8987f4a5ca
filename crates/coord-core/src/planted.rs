//! Deliberately broken variants of this crate, to prove that the checks catch them. Compiled only with the feature `planted`,
//! which no release has; without a choice the crate behaves as always.

use std::cell::Cell;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Every bug by its name.
pub const ALL: [(&str, Bug); 3] = [
    ("grant-twice", Bug::GrantTwice),
    ("token-not-raised", Bug::TokenNotRaised),
    ("skip-fence-check", Bug::SkipFenceCheck),
];

impl FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Bug, String> {
        let bug = ALL.iter().find(|(known, _)| *known == name).map(|(_, bug)| *bug);
        bug.ok_or_else(|| format!("no planted bug '{name}': there are {:?}", ALL.map(|(name, _)| name)))
    }
}

/// For all threads of a real process; the number of a bug in [`ALL`] plus one, zero for none.
static IN_PROCESS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// For one thread: tests run beside each other, and the simulation runs a whole cluster on one thread.
    static IN_THREAD: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Switches one bug on for this thread; `None` switches it off.
pub fn choose(bug: Option<Bug>) {
    IN_THREAD.set(bug);
}

/// Switches one bug on for the whole process.
pub fn choose_in_process(bug: Bug) {
    let number = ALL.iter().position(|(_, it)| *it == bug).expect("every bug is in the list") + 1;
    IN_PROCESS.store(number, Ordering::Relaxed);
}

/// Whether this bug is on.
pub(crate) fn is(bug: Bug) -> bool {
    let in_process = IN_PROCESS.load(Ordering::Relaxed).checked_sub(1).map(|number| ALL[number].1);
    IN_THREAD.get() == Some(bug) || in_process == Some(bug)
}
