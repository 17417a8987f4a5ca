//! Streams between processes. One long-lived stream from each process to each that it calls; what waits is sent together.
//! Answers come back on the caller's stream in any order.
//!
//! Keeps true: every queue is bounded; a break of the stream answers every call on it at once, and says which had been sent.

mod frames;
mod link;
mod links;
mod open;
mod server;

pub(crate) use link::{Link, Outbound, Teller};
pub(crate) use links::Links;
pub(crate) use server::Server;

/// Version of the envelope; equal or refused.
pub(crate) const VERSION: u32 = 1;

/// Bytes of payload that are gathered into one gRPC message; a larger payload travels alone. Enough to make the cost of a
/// message vanish, little enough that a batch is decoded in well under a millisecond.
pub(crate) const BATCH_BYTES: usize = 256 << 10;

/// Frames in one batch.
pub(crate) const BATCH_FRAMES: usize = 1024;

/// Bytes beside the payload in a frame: names of 255 bytes at most, numbers, tags.
pub(crate) const FRAME_OVERHEAD: usize = 4 << 10;
