//! The spans that liveness works with, and why they are what they are.

use std::time::Duration;

use palisade_coord_core::OnDisconnect;

/// The least time that a session which is released after a disconnect has to attach again when a node broke its stream, the
/// store leader or a relay: its client must notice, find another node and attach, and none of that is its fault.
pub const RECONNECT_WINDOW: Duration = Duration::from_secs(3);

/// Clients send this many keep-alives per TTL, so that two may be lost.
const KEEP_ALIVES_PER_TTL: u32 = 3;

/// How often a client with this TTL sends keep-alives.
pub fn keep_alive_interval(ttl: Duration) -> Duration {
    ttl / KEEP_ALIVES_PER_TTL
}

/// How long a session has to attach again after its client's end of the stream broke; `None`: its TTL alone counts.
pub(crate) fn after(on_disconnect: OnDisconnect) -> Option<Duration> {
    match on_disconnect {
        OnDisconnect::KeepUntilTtl => None,
        OnDisconnect::ReleaseAfter { ms } => Some(Duration::from_millis(ms)),
    }
}

/// The same where the break was a node's fault: the store leader's, or that of the node that relayed the stream.
pub(crate) fn window(on_disconnect: OnDisconnect) -> Option<Duration> {
    match on_disconnect {
        OnDisconnect::KeepUntilTtl => None,
        OnDisconnect::ReleaseAfter { ms } => Some(Duration::from_millis(ms).max(RECONNECT_WINDOW)),
    }
}

/// The spans of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timings {
    /// Without a confirmation for this long the session streams are closed: another node may lead by then.
    pub election_timeout: Duration,
    /// Time between ticks. Also the pace of repeated proposals and rounds.
    pub tick: Duration,
    /// A tick that is later than this was late because the node stood still; what was less is the scheduler's jitter.
    pub late_after: Duration,
    /// How long to wait before a proposal whose fate is unknown is repeated.
    pub repeat_end: Duration,
}

impl Timings {
    /// The usual spans for an election timeout. A tick of 20 ms keeps an expiry well within 50 ms of its deadline.
    pub fn new(election_timeout: Duration) -> Timings {
        Timings {
            election_timeout,
            tick: Duration::from_millis(20),
            late_after: Duration::from_millis(50),
            repeat_end: Duration::from_millis(100),
        }
    }

    /// A round begins at least this often, so that a lost majority is noticed while nobody sends keep-alives.
    pub(crate) fn idle_round(&self) -> Duration {
        self.election_timeout / 2
    }

    /// A round that is out for longer than this does not hold up the next.
    pub(crate) fn slow_round(&self) -> Duration {
        self.election_timeout / 4
    }
}
