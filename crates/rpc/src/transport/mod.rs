//! Streams between processes. Two long-lived ones from each process to each that it calls, on connections of their own: control
//! does not wait behind work. What waits is sent together; answers come back on the caller's stream in any order.
//!
//! Keeps true: every queue is bounded; a break of the stream answers every call on it at once, and says which had been sent.
//!
//! Reading order: `frames` (bytes), `outbox` (what waits), `sender` (a gateway), `open` and `running` (a stream, from the caller), `link` and
//! `links` (the ways to other processes), `peer` (a stream, from the other side), `server`.

pub(crate) mod codec;
mod frames;
mod link;
mod links;
mod open;
mod outbox;
mod peer;
mod running;
mod sender;
mod server;

pub(crate) use link::Link;
pub(crate) use links::Links;
pub(crate) use peer::{AskReply, TellReply};
pub(crate) use sender::Sender;
pub(crate) use server::Server;

/// Version of the envelope; equal or refused. 2: routes and credits.
pub const VERSION: u32 = 2;

/// Where streams are opened.
const PATH: &str = "/palisade.rpc.v1.Envelope/Open";

/// Bytes of payload that are gathered into one gRPC message; a larger payload travels alone. Enough to make the cost of a
/// message vanish, little enough that a batch is decoded in well under a millisecond.
pub(crate) const BATCH_BYTES: usize = 256 << 10;

/// Bytes beside the payload in a frame: names of 255 bytes at most, numbers, tags.
pub(crate) const FRAME_OVERHEAD: usize = 4 << 10;

/// Unanswered asks of one stream. Every one is a small entry in a map at both ends, and an await.
pub(crate) const MAX_IN_FLIGHT: usize = 65_536;

/// Routes of one stream: the methods of two thousand gateways of eight. Calls beyond them carry their names each time.
pub(crate) const MAX_ROUTES: u32 = 16_384;

/// The lower bits of a tell's id count, the upper ones name its gateway; an ask has none.
const TELLER_SHIFT: u32 = 40;
