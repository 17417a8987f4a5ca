//! Who is alive: deadlines of sessions, keep-alives that wait for a quorum, what to expire. Run by the store leader.
//!
//! [`Liveness::on`] takes an event and the time, and returns what is to be done. It sends nothing, proposes nothing, never
//! sleeps and reads no clock: the driver in `server` carries its decisions out and tells it what came of them. Nothing here
//! is replicated or kept: a new store leader begins anew from the sessions in the state.
//!
//! Reading order: [`Event`] (what may happen), [`Effect`] (what is to be done, and what must have happened before),
//! [`Timings`], [`Liveness`] (the hub), `leading` with the parts that it calls (`rounds`, `keep_alive`, `ending`,
//! `sessions`).

mod effect;
mod ending;
mod event;
mod keep_alive;
mod leading;
mod liveness;
mod rounds;
mod sessions;
mod timings;

pub use effect::{CloseReason, Effect, NotRenewed};
pub use event::{Event, Fate, Known, Round, StreamId, Ticket};
pub use liveness::Liveness;
pub use timings::{RECONNECT_WINDOW, Timings, keep_alive_interval};
