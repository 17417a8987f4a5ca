//! How large the replicated state may grow. Limits on single requests are admission's and stand in `wire`; these depend on
//! the state and are therefore kept here, where every replica refuses alike.

/// Twice the aim of 100,000 live sessions; at about 1 KiB each they stay below a quarter of a gigabyte.
pub const MAX_SESSIONS: u64 = 200_000;

/// Elections are never removed yet, so this is also how many names a cluster sees in its life.
pub const MAX_ELECTIONS: u64 = 100_000;

/// Waiting candidates of one election. Real contests have a handful; ten thousand processes campaigning at once is the
/// largest fleet we plan for.
pub const MAX_CANDIDATES: u64 = 10_000;

/// Candidacies of one session, waiting and leading. Ending a session ends them all in one command, and that command must
/// stay far below a heartbeat.
pub const MAX_CANDIDACIES: u64 = 1_024;

/// Keys. Coordination data is small; a snapshot is built in memory and sent whole.
pub const MAX_KEYS: u64 = 1_000_000;

/// Bytes of all keys and values together, for the same reason.
pub const MAX_KEY_SPACE_BYTES: u64 = 1 << 30;

/// Answers remembered per session. A client that keeps more requests than this in flight under one session learns
/// "unknown" for the oldest.
pub const MAX_ANSWERS: usize = 1_024;

/// What a limit is of, as [`crate::Refusal::Limit`] says it.
const WHAT: [&str; 6] = [SESSIONS, ELECTIONS, CANDIDATES, CANDIDACIES, KEYS, KEY_SPACE_BYTES];
pub(crate) const SESSIONS: &str = "sessions";
pub(crate) const ELECTIONS: &str = "elections";
pub(crate) const CANDIDATES: &str = "candidates of the election";
pub(crate) const CANDIDACIES: &str = "candidacies of the session";
pub(crate) const KEYS: &str = "keys";
pub(crate) const KEY_SPACE_BYTES: &str = "bytes of keys and values";

/// The words of a limit, found again by whoever reads them from a snapshot.
pub fn what(words: &str) -> Option<&'static str> {
    WHAT.into_iter().find(|what| *what == words)
}
