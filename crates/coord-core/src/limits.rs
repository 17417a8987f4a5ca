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

/// Leaderships of the past that are kept of one election: a year of changes every eight hours.
pub const MAX_REIGNS_PER_ELECTION: usize = 1_000;

/// Leaderships of the past that are kept in all: ten of each of [`MAX_ELECTIONS`].
pub const MAX_REIGNS: usize = 1_000_000;

/// Bytes of all leaderships of the past: room for [`MAX_REIGNS`] under ids of about forty bytes.
pub const MAX_REIGN_BYTES: u64 = 96 << 20;

/// What was told to the observers of one election, in events: whoever is behind by more is told of a gap.
pub const MAX_TOLD_PER_ELECTION: usize = 1_000;

/// What was told to all observers, in events.
pub const MAX_TOLD: usize = 100_000;

/// Bytes of what was told to all observers. Most of it are values, which may be 64 KiB: then five hundred events fit.
pub const MAX_TOLD_BYTES: u64 = 32 << 20;

/// What a record of the past counts for beside its names and values.
pub const RECORD_SHARE_BYTES: u64 = 64;

/// Keys. Coordination data is small; a snapshot is built in memory and sent whole.
pub const MAX_KEYS: u64 = 1_000_000;

/// Bytes of all keys and values together, for the same reason.
pub const MAX_KEY_SPACE_BYTES: u64 = 384 << 20;

/// Bytes of what keys had before: when there are more, the oldest are compacted, so that a write is never refused for the past.
/// At a hundred bytes a write, the last half million writes.
pub const MAX_KEY_HISTORY_BYTES: u64 = 96 << 20;

/// What a past version counts for beside its key and value.
pub const VERSION_SHARE_BYTES: u64 = 64;

/// Changes whose memory a command gives back after a compaction: well below a millisecond.
pub(crate) const MAX_TRIMMED: usize = 1_024;

/// Bytes of keys and values in the answer to one command or read: every replica makes the answer. Room for the largest key
/// with the largest value, so that reading on always gets further; below what gRPC takes in one message.
pub const MAX_REPLY_BYTES: u64 = 2 << 20;

/// Keys that one command may remove: about a tenth of a second of work on every replica.
pub const MAX_REMOVED: u64 = 100_000;

/// Keys that one command may look at, those that are gone and whose past is kept included: the conditions and reads of a
/// transaction may each name a range, and every replica looks. About a tenth of a second.
pub const MAX_LOOKED_AT: u64 = 1_000_000;

/// A read outside the log that looks at more keys is made on a copy of the state, so that no command waits for it: about a
/// millisecond.
pub const LONG_READ: u64 = 10_000;

/// Keys bound to one session, for the same reason as [`MAX_CANDIDACIES`].
pub const MAX_SESSION_KEYS: u64 = 4_096;

/// Bytes of all candidacies together, waiting and leading: their names, their values, and the two shares below. The limits
/// on their numbers alone would let a single client fill the memory of every replica. Room for two candidacies of about
/// half a kilobyte for each of [`MAX_SESSIONS`].
pub const MAX_CANDIDACY_BYTES: u64 = 192 << 20;

/// What a candidacy counts for beside its names and value: its records and places in the indexes, so that many small
/// candidacies do not pass below [`MAX_CANDIDACY_BYTES`].
pub const CANDIDACY_SHARE_BYTES: u64 = 256;

/// What a component of a value counts for beside its name and address, for the same reason.
pub const COMPONENT_SHARE_BYTES: u64 = 64;

// A replica installs no snapshot above 1 GiB (MAX_SNAPSHOT_BYTES in replica's snapshot_transfer.rs; no edge leads there).
// An eighth is left for what is counted by number: sessions, names of elections, and the numbers of each key.
const _: () = assert!(
    MAX_KEY_SPACE_BYTES
        + MAX_KEY_HISTORY_BYTES
        + MAX_CANDIDACY_BYTES
        + MAX_ANSWER_BYTES
        + MAX_REIGN_BYTES
        + MAX_TOLD_BYTES
        <= (1 << 30) / 8 * 7
);

/// Bytes of all remembered answers: when there are more, the oldest are forgotten, whosever they are. Half a million answers.
pub const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// What an answer counts for beside its names.
pub const ANSWER_SHARE_BYTES: u64 = 96;

/// Answers remembered per session. A client that keeps more requests than this in flight under one session learns
/// "unknown" for the oldest.
pub const MAX_ANSWERS: usize = 1_024;

/// What a limit is of, as [`crate::Refusal::Limit`] says it.
const WHAT: [&str; 10] = [
    SESSIONS,
    ELECTIONS,
    CANDIDATES,
    CANDIDACIES,
    CANDIDACY_BYTES,
    KEYS,
    KEY_SPACE_BYTES,
    SESSION_KEYS,
    REMOVED,
    LOOKED_AT,
];
pub(crate) const SESSIONS: &str = "sessions";
pub(crate) const ELECTIONS: &str = "elections";
pub(crate) const CANDIDATES: &str = "candidates of the election";
pub(crate) const CANDIDACIES: &str = "candidacies of the session";
pub(crate) const CANDIDACY_BYTES: &str = "bytes of candidacies";
pub(crate) const KEYS: &str = "keys";
pub(crate) const REMOVED: &str = "keys removed by one command";
pub(crate) const LOOKED_AT: &str = "keys that one command looks at";
pub(crate) const SESSION_KEYS: &str = "keys of the session";
pub(crate) const KEY_SPACE_BYTES: &str = "bytes of keys and values";

/// The words of a limit, found again by whoever reads them from a snapshot.
pub fn what(words: &str) -> Option<&'static str> {
    WHAT.into_iter().find(|what| *what == words)
}
