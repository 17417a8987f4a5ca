//! The phases of a run.

/// What a run is at. Processes may heed it: those that resign for fun stop doing so when everything must come to rest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Things go wrong. Nothing may be violated.
    Faults,
    /// Nothing is broken any more, but everybody is as busy as before. Within a bound, everything must be served again.
    Healed,
    /// Everybody keeps what he has: nothing may change hands any more.
    Rest,
}
