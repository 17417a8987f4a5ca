//! Chooses a deliberately broken variant for a whole server process, to prove that black-box checks catch it. Compiled only with the
//! feature `planted`, which no release has; without a choice the node behaves as always.
//!
//! It holds no bug of its own, and reaches only those of the state machine: the others are chosen per thread or per engine.

use palisade_coord_core::planted as core;

/// Switches the bug of this name on for the whole process; the error names those that there are.
pub fn choose(name: &str) -> Result<(), String> {
    core::choose_in_process(name.parse()?);
    Ok(())
}
