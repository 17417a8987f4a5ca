//! Which bug is on. At most one per thread and one per process.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crate::Bug;

static IN_PROCESS: OnceLock<Bug> = OnceLock::new();

thread_local! {
    static IN_THREAD: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Switches one bug on for this thread; `None` switches it off.
pub fn choose(bug: Option<Bug>) {
    IN_THREAD.set(bug);
}

/// Switches one bug on for the whole process, once: a process that already has another keeps it.
pub fn choose_in_process(bug: Bug) {
    IN_PROCESS.get_or_init(|| bug);
}

/// Whether this bug is on, for this thread or for the process.
pub fn is(bug: Bug) -> bool {
    IN_THREAD.get() == Some(bug) || IN_PROCESS.get() == Some(&bug)
}

/// Runs a check with this bug on this thread. The words in which it failed; `None`: it saw nothing.
pub fn caught(bug: Bug, check: impl FnOnce()) -> Option<String> {
    choose(Some(bug));
    let checked = catch_unwind(AssertUnwindSafe(check));
    choose(None);
    let panic = checked.err()?;
    let words = panic.downcast_ref::<String>().cloned();
    Some(words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned())).unwrap_or_default())
}

/// Runs this with no bug on this thread: for what judges the product and must not be broken with it.
pub fn without<T>(work: impl FnOnce() -> T) -> T {
    let bug = IN_THREAD.replace(None);
    let done = work();
    choose(bug);
    done
}

/// Takes this thread's choice along to the thread that runs `work`.
pub fn carried(work: impl FnOnce() + Send) -> impl FnOnce() + Send {
    let bug = IN_THREAD.get();
    move || {
        choose(bug);
        work();
    }
}
