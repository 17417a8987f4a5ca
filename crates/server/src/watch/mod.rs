//! Watches of keys: every change from a revision on, in order, for as long as its past is kept.
//!
//! Reading order: `follow` (how far a watcher has got: pure), `intervals` (which watchers watch a key) and `wakers` (who is to
//! be woken), `room` (bytes on their way to all of them), `stream` (which carries it out), `service`.
//!
//! What it deliberately does not do: queue events. A watcher that is woken reads from the past that the state keeps anyway, page
//! by page, when its reader has taken the page before. So a slow one costs what a quick one costs, and slows nobody; and a
//! write pays for the watchers of its keys, whoever else there is.

mod follow;
mod intervals;
#[cfg(test)]
mod model_test;
mod room;
mod service;
mod stream;
mod wakers;

pub(crate) use room::Room;
pub(crate) use service::Watches;
pub(crate) use wakers::Wakers;
