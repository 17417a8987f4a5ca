//! Names of gRPC metadata that calls of the store carry beside their messages. Nothing here is needed by a plain client.

/// On a request: [`NO`] asks a node that does not lead the store to refuse with a hint instead of asking the store leader itself.
pub const FORWARD: &str = "palisade-forward";

/// The only value of [`FORWARD`] that means anything.
pub const NO: &str = "no";

/// On a request: the node that asks for somebody else. It is never sent on: one hop, or a loop of stale hints could be long.
pub const FORWARDED: &str = "palisade-forwarded";

/// On a session stream: the node that passes its frames on for a client.
pub const RELAY: &str = "palisade-relay";

/// On the answer to a stream that is relayed or forwarded: `HOST:PORT` of the store leader, to open it there directly.
pub const STORE_LEADER: &str = "palisade-store-leader";
