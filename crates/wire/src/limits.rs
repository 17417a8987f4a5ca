//! What a request may contain, checked before anything is proposed. Limits that depend on the state are coord-core's.

/// Names of elections and ids of candidates, in bytes of printable UTF-8: at least 1. They are printed, put in metadata
/// and used as keys of maps on every replica.
pub const NAME_BYTES: usize = 255;

/// The value of a leadership, encoded. Every observer gets it on every change.
pub const VALUE_BYTES: usize = 64 << 10;

/// A key, in bytes: at least 1.
pub const KEY_BYTES: usize = 4 << 10;

/// The value of a key. Coordination data is small; payloads belong elsewhere.
pub const KV_VALUE_BYTES: usize = 1 << 20;

/// Conditions of a transaction, and operations of all its branches, those of transactions within included.
pub const TXN_OPS: usize = 128;

/// Transactions within each other. An entry that is nested deeper than protobuf decodes would stop the cluster.
pub const TXN_DEPTH: usize = 8;

/// A whole encoded request. An entry that a follower cannot decode would stop the cluster, so this bounds what goes into
/// the log whatever the other limits are set to.
pub const REQUEST_BYTES: usize = 3 << 19;

/// What gRPC accepts in one message: above [`REQUEST_BYTES`], so that a request that is too large gets our answer, which
/// names the limit, and not the transport's, which says nothing about the outcome.
pub const MESSAGE_BYTES: usize = 4 << 20;

/// How long a watcher may hear nothing before it is told how far it has got, unless it says: seldom enough to cost nothing, also
/// for ten thousand of them, and often enough that what they resume from is not compacted meanwhile.
pub const PROGRESS_DEFAULT_MS: u64 = 60_000;

/// The shortest that it may say: ten thousand of them then ask for what the store can do.
pub const PROGRESS_MIN_MS: u64 = 100;

/// The longest that it may say, as etcd's own: ten minutes.
pub const PROGRESS_MAX_MS: u64 = 600_000;

/// Sessions renewed by one keep-alive frame: a process with more sends several.
pub const KEEP_ALIVE_SESSIONS: usize = 1_024;

/// The shortest TTL of a session, unless the server is configured otherwise. Below it a common pause of a scheduler or an
/// election of the store would end sessions that live.
pub const TTL_MIN_MS: u64 = 200;

/// The longest TTL of a session, unless the server is configured otherwise: ten minutes.
pub const TTL_MAX_MS: u64 = 600_000;

/// The longest a session may outlive its broken stream: as long as the longest TTL, after which it would have ended anyway.
pub const RELEASE_AFTER_MAX_MS: u64 = TTL_MAX_MS;

/// How much of an offending value is shown in an error, in characters.
pub const SHOWN_CHARS: usize = 128;
