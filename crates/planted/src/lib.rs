//! Deliberately broken variants of the product: each breaks one rule in one place, and a named check must catch it.
//!
//! The place reads `if planted::is(Bug::GrantTwice) { .. }`. Without the feature `planted`, which no release has, that is the
//! constant `false` and the compiler drops what stands behind it; a bug has not even a name then. With the feature, one bug is
//! chosen: for a thread, because tests run beside each other and the simulation runs a whole cluster on one; or for a process.
//!
//! Reading order: [`Bug`] (the list), then `choice` (which one is on).

mod bug;
#[cfg(feature = "planted")]
mod choice;

pub use bug::Bug;
#[cfg(feature = "planted")]
pub use choice::{carried, caught, choose, choose_in_process, is, without};

/// Whether this bug is on: never, in a build without the feature `planted`.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}

/// Runs this with no bug on this thread: there is none in a build without the feature `planted`.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub fn without<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Takes this thread's choice along to the thread that runs `work`: there is none in a build without the feature `planted`.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn carried<W: FnOnce()>(work: W) -> W {
    work
}
