//! Actors whose messages carry fencing tokens, so that a leader that was replaced is refused wherever it knocks.
//!
//! # A fenced service from nothing
//! Declare a gateway in a `.proto` file. A service whose name ends in `Gateway` becomes one; a method that returns `Told` is a
//! *tell*, any other an *ask*:
//! ```text
#![doc = include_str!("../examples/proto/shop.proto")]
//! ```
//! Generate in `build.rs`, with `palisade-rpc-build` among the build dependencies:
//! ```text
//! fn main() -> Result<(), palisade_rpc_build::CompileError> {
//!     palisade_rpc_build::compile(&["proto/shop.proto"], &["proto"])
//! }
//! ```
//! Then implement the endpoint, start it, and call it (`cargo run -p palisade-rpc --example shop` runs this, and so does a test):
//! ```
#![doc = include_str!("../examples/shop.rs")]
//! ```
//! A worker, which obeys several leaders one after the other, is built with `.guarded_by(guards)` instead of `.leads(seat)`; an
//! endpoint with neither has no fence.
//!
//! # What is promised
//! - One message at a time; the state is reachable only in synchronous steps; every resume after an await checks the guard
//!   again; a higher token drops what ran under lower ones before the first message under it runs.
//! - Every refusal says why, with the current token and the leader's address if they are known; a refused tell is reported back.
//! - Messages of one gateway are handled in the order in which they were sent, except that control messages overtake others.
//! - No queue is without a bound. A tell beyond what the endpoint has room for is refused where it is sent; [`RawGateway::ready`]
//!   waits for room. Control messages have a short mailbox and a connection of their own.
//! - A deadline travels with its call and ends the work; a caller that is gone ends it too.
//! - An [`RpcError`] says whether the message surely was not handled ([`RpcError::outcome`]).
//!
//! # Reading order
//! [`RpcAddress`], [`InterfaceInfo`] (what is generated), [`RpcError`], [`Answer`], [`RpcEndpoint`] and [`Context`] (what a user
//! writes), [`Stamp`] / [`LeaderSeat`] / [`Guards`] (fencing: sender, leader, worker), `recipient` (arrival), `actor` (the loop), [`RawGateway`] and
//! [`Refusals`], [`RpcService`], `transport` (streams between processes), `mailbox` and
//! `tells` (what may wait), `plain` (the same endpoints for any gRPC client),
//! [`Counters`]. On top of these, for who follows leaders: [`Backoff`], [`LeaderTarget`], [`LeaderRetriever`] (the present
//! leader's gateway), [`register`] and [`LeaderConnection`] (registered with whoever leads), [`Heartbeats`].
//!
//! # What is deliberately not here
//! Any knowledge of a store: tokens and leaders come through [`palisade_fence::TokenSource`] and
//! [`palisade_fence::LeaderSource`]. A worker's durable guard is handed in as a [`DurableGuard`]; [`GuardFile`] keeps one in a file.

mod actor;
mod address;
mod answer;
mod backoff;
pub mod codegen;
mod context;
mod counters;
mod endpoint;
mod error;
mod fencing;
mod gateway;
mod guard_file;
mod guards;
mod heartbeat_monitor;
mod heartbeats;
mod inbound;
mod interface;
mod leader_connection;
mod leader_seat;
mod leader_target;
mod mailbox;
mod plain;
mod recipient;
mod refusals;
mod registration;
mod registry;
mod retriever;
mod service;
mod stamp;
mod tells;
mod transport;

pub use address::{BadAddress, RpcAddress};
pub use answer::Answer;
pub use backoff::Backoff;
pub use context::{CallInfo, Context, Timer};
pub use counters::{AnswerKind, Counted, Counters};
pub use endpoint::{CreateError, EndpointBuilder, EndpointFailure, EndpointHandle, Life, RpcEndpoint, Waiting};
pub use error::{AppError, AppFault, ConnectError, Outcome, RpcError};
pub use gateway::RawGateway;
pub use guard_file::{GuardFile, GuardFileError};
pub use guards::{GuardSpec, Guards};
pub use heartbeat_monitor::{Gone, HeartbeatPolicy, LastHeard};
pub use heartbeats::{Heartbeat, Heartbeats, Held};
pub use interface::{InterfaceInfo, Lane, MethodInfo, MethodKind, RpcGateway, Served};
pub use leader_connection::{Connection, LeaderConnection};
pub use leader_seat::LeaderSeat;
pub use leader_target::LeaderTarget;
pub use palisade_fence::{DurableGuard, DurableGuardError};
pub use refusals::{Refusal, Refusals};
pub use registration::{Accepted, Attempt, Decision, RegistrationPolicy, Rejected, register};
pub use retriever::{AskLeaderError, Found, LeaderRetriever, Led, if_idempotent, if_not_handled};
pub use service::{CloseError, RpcService, RpcServiceConfig, StartError};
pub use stamp::Stamp;
pub use transport::VERSION as ENVELOPE_VERSION;

/// The messages of the envelope; generated code names [`v1::Told`].
#[allow(missing_docs, clippy::all, unreachable_pub)] // generated
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/palisade.rpc.v1.rs"));
}
