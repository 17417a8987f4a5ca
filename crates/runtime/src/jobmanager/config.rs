//! Settings of a JobManager.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a JobManager.
#[derive(Clone, Debug)]
pub struct JobManagerConfig {
    /// This replica's name; its candidate id.
    pub id: String,
    /// Where to listen; port 0 takes a free one.
    pub listen: String,
    /// How others reach it; by default the address it listens on.
    pub advertise: Option<String>,
    /// The folder shared by all JobManagers and TaskExecutors.
    pub storage: PathBuf,
    /// The election that the replicas contest.
    pub election: String,
    /// Time-to-live of the session.
    pub ttl: Duration,
    /// How long the store waits after a broken connection before it hands over. 0 by default: every effect of a JobManager is
    /// fenced.
    pub release_after: Duration,
    /// Nodes of the store.
    pub endpoints: Vec<String>,
    /// Heartbeats with TaskExecutors.
    pub heartbeats: Heartbeats,
}

impl JobManagerConfig {
    /// The defaults, for a replica on this machine.
    pub fn new(id: impl Into<String>, storage: impl Into<PathBuf>, endpoints: Vec<String>) -> JobManagerConfig {
        JobManagerConfig {
            id: id.into(),
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            storage: storage.into(),
            election: "jobmanager".to_owned(),
            ttl: Duration::from_secs(2),
            release_after: Duration::ZERO,
            endpoints,
            heartbeats: Heartbeats::default(),
        }
    }
}

/// When a silent process is taken for gone. A broken connection is noticed at once; this is for hung ones and silent networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeats {
    /// Time between two.
    pub interval: Duration,
    /// Silence after which the other side is given up.
    pub timeout: Duration,
}

impl Default for Heartbeats {
    fn default() -> Heartbeats {
        // A pause of the whole process (a suspended laptop, a stopped container) of a few seconds should not restart jobs.
        Heartbeats { interval: Duration::from_millis(500), timeout: Duration::from_secs(5) }
    }
}
