//! What a replica is told at its start, and what openraft is told in turn, each value with its reason.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};
use palisade_planted::{self as planted, Bug};

use crate::StartError;

/// Who this node is and how fast it must notice.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// This node's id, unique in the cluster for ever.
    pub node_id: u64,
    /// Of its data folder.
    pub store_id: u64,
    /// Drawn at each start: tells this process from another one on a copy of its folder. 0: not drawn, nobody is told apart.
    pub process: u64,
    /// How other nodes reach it, `HOST:PORT`.
    pub address: String,
    /// Raft's timers.
    pub timings: Timings,
    /// Entries between snapshots; also how many a restart applies again at most, roughly.
    pub snapshot_every: u64,
}

/// Raft's timers. A store leader that stops answering is noticed after `election_min + election_max` to
/// `2 * election_max`: its lease is `election_max`, and a follower waits a random time beyond it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timings {
    /// Between heartbeats; also the deadline of one.
    pub heartbeat: Duration,
    /// A follower's random wait is at least this long.
    pub election_min: Duration,
    /// And at most this long; also how long a store leader believes a quorum's last acknowledgement.
    pub election_max: Duration,
}

impl Default for Timings {
    /// Notices in 225 to 300 ms. Three heartbeats fit into `election_max`, so a slow one deposes nobody. A follower answers a
    /// heartbeat only when what it took before is synced, so a heartbeat's deadline must be far above a sync: at 25 ms a busy
    /// machine of two cores missed it again and again.
    fn default() -> Timings {
        Timings {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(75),
            election_max: Duration::from_millis(150),
        }
    }
}

/// Entries in one append: they share one round trip and one sync of the follower. Bytes are capped where they are read.
const ENTRIES_PER_APPEND: u64 = 512;

/// Log entries below a snapshot that are kept at most, for followers that are a little behind: sending these is cheaper
/// than a snapshot.
const KEPT_BELOW_SNAPSHOT: u64 = 1_000;

/// How long sending and installing a whole snapshot may take before it is tried again.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(30);

/// Waits between attempts to reach a peer. openraft's own begin at 200 ms, longer than a whole failover; these are low
/// because an attempt at a dead peer costs one refused connection.
const BACKOFF: &str = "5ms 10ms 20ms 40ms ...100ms";

impl ReplicaConfig {
    /// What openraft is told.
    pub(crate) fn raft(&self) -> Result<Config, StartError> {
        let Timings { heartbeat, election_min, election_max } = self.timings;
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let snapshot_every = self.snapshot_every.max(1);
        let config = Config {
            cluster_name: "palisade".to_owned(),
            heartbeat_interval: ms(heartbeat),
            election_timeout_min: ms(election_min),
            election_timeout_max: ms(election_max),
            // A node that was cut off must not depose a store leader that the others still hear.
            enable_pre_vote: Some(true),
            // A restarted store leader has forgotten its quorum: it must be elected again before it serves a read.
            enable_leader_restore: Some(false),
            // A store leader without a quorum stops its heartbeats from time to time, so that a majority that hears both
            // it and each other can elect (openraft #2080).
            quorum_loss_probe_interval: Some(ms(election_max).saturating_mul(2))
                .filter(|_| !planted::is(Bug::NoQuorumLossProbe)),
            // Heartbeats are never left out: they carry no data and keep the quorum's acknowledgement young.
            heartbeat_min_interval: Some(0),
            max_payload_entries: ENTRIES_PER_APPEND,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
            replication_lag_threshold: snapshot_every.saturating_mul(2),
            max_in_snapshot_log_to_keep: KEPT_BELOW_SNAPSHOT.min(snapshot_every / 4),
            install_snapshot_timeout: ms(SNAPSHOT_LIMIT),
            backoff: BACKOFF.to_owned(),
            ..Config::default()
        };
        config.validate().map_err(|error| StartError::Timings { why: error.to_string() })
    }
}
