//! The replicated state machine: sessions, elections, keys. Pure.
//!
//! [`apply()`] takes a [`State`] and a [`Command`] and returns an [`Outcome`]. It is total and infallible: a refused command
//! is an outcome. It knows no clock (time reaches it as data, for people to read), no randomness, no I/O, no async and no
//! hash-ordered collection, so that every replica comes to the same state. It cannot tell who leads the cluster's Raft.
//!
//! Reading order: [`ids`] (what is counted), [`command`] (what can be asked), [`outcome`] (what is answered), [`state`] (what
//! is kept, with its invariants on the fields) and [`queue`] (who waits), [`mod@apply`] (the hub), then the parts that it
//! calls: `sessions`, `elections`, `handover` (how a leadership is given up), [`keys`], `requests` with [`memory`], `answers` and
//! `fingerprint` (answers for repeated requests), [`history`] on a [`ledger`] (what is kept of the past). [`limits`] says how
//! large it may grow, [`invariants`] what is always true, [`frozen`] on [`shared`] how a state is kept as it was at one moment,
//! [`level`] how programs of two versions live together, [`restore`] how it comes back from a snapshot, and [`generation`] what a restore from backup makes of it.

mod answers;
pub mod apply;
pub mod command;
mod elections;
mod fingerprint;
pub mod frozen;
pub mod generation;
mod handover;
pub mod history;
pub mod ids;
pub mod invariants;
pub mod keys;
pub mod ledger;
pub mod level;
pub mod limits;
pub mod memory;
pub mod outcome;
pub mod queue;
mod requests;
pub mod restore;
mod sessions;
pub mod shared;
pub mod state;

pub use apply::apply;
pub use command::{Command, EndReason, Guard, OnDisconnect, Op, RequestId, Value};
pub use frozen::Frozen;
pub use ids::{AttachGeneration, Revision, Seq, Serial, SessionId};
pub use keys::changes::{Bookmark, ChangePage, KeyChange, PageSize};
pub use keys::op::{KeyOp, KeyReply, KeyValue, Keys};
pub use outcome::{Asked, Event, Grant, Outcome, Refusal, Reply, Waiting};
pub use state::{Election, HandOver, Session, State, Wish};
