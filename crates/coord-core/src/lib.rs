//! The replicated state machine: sessions, elections, keys. Pure.
//!
//! [`apply`] takes a [`State`] and a [`Command`] and returns an [`Outcome`]. It is total and infallible: a refused command
//! is an outcome. It knows no clock (time reaches it as data, for people to read), no randomness, no I/O, no async and no
//! hash-ordered collection, so that every replica comes to the same state. It cannot tell who leads the cluster's Raft.
//!
//! Reading order: [`ids`] (what is counted), [`command`] (what can be asked), [`outcome`] (what is answered), [`state`] (what
//! is kept, with its invariants on the fields) and [`queue`] (who waits), [`mod@apply`] (the hub), then the parts that it
//! calls: `sessions`, `elections`, `keys`, and [`memory`] with `fingerprint` (answers for repeated requests). [`limits`] says
//! how large it may grow, [`invariants`] what is always true, [`restore`] how a state comes back from a snapshot.

pub mod apply;
pub mod command;
mod elections;
mod fingerprint;
pub mod ids;
pub mod invariants;
mod keys;
pub mod limits;
pub mod memory;
pub mod outcome;
pub mod queue;
pub mod restore;
mod sessions;
pub mod state;

pub use apply::apply;
pub use command::{Command, EndReason, Force, OnDisconnect, Op, RequestId, Value};
pub use ids::{AttachGeneration, Revision, Seq, Serial, SessionId};
pub use outcome::{Event, Grant, Outcome, Refusal, Reply, Waiting};
pub use state::{Election, KeyValue, Session, State};
