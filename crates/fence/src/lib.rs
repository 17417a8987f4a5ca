//! The fencing token, its one comparison, and the two traits through which tokens and leaders are learnt.
//!
//! This crate has no dependencies and knows no store: any resource that wants to refuse a replaced leader can use it.
//! It never does I/O and never reads a clock.
//!
//! Reading order: [`Token`] (what is compared), [`Fence`] (a token with the election it belongs to), [`Guard`] (what a
//! receiver remembers), [`DurableGuard`] (what it remembers after a restart), [`LeaderFence`] (what a leader's own endpoint
//! checks), [`source`] (who tells us about tokens), [`metadata`] (how a fence travels in gRPC).

mod durable;
mod fence;
mod guard;
mod leader_fence;
pub mod metadata;
pub mod source;
mod token;

pub use durable::{DurableGuard, DurableGuardError};
pub use fence::{ClusterId, Fence, ParseFenceError};
pub use guard::{Guard, GuardVerdict, Raise};
pub use leader_fence::{LeaderFence, LeaderVerdict};
pub use source::{LeaderSource, LeaderView, PresentLeader, TokenSource};
pub use token::{ParseTokenError, Token};
