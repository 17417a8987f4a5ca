//! Settings of a TaskExecutor.

use std::path::PathBuf;

/// Settings of a TaskExecutor.
#[derive(Clone, Debug)]
pub struct TaskExecutorConfig {
    /// This worker's name.
    pub id: String,
    /// Where to listen; port 0 takes a free one. The data exchange takes a free port of the same host.
    pub listen: String,
    /// How others reach it; by default the address it listens on. The data exchange is reached under the same host.
    pub advertise: Option<String>,
    /// The folder shared by all JobManagers and TaskExecutors.
    pub storage: PathBuf,
    /// This worker's own folder: the highest token it accepted, kept across restarts.
    pub data: PathBuf,
    /// How many subtask pairs it runs at once.
    pub slots: u32,
    /// The election to follow.
    pub election: String,
    /// Nodes of the store.
    pub endpoints: Vec<String>,
}

impl TaskExecutorConfig {
    /// The defaults, for a worker on this machine.
    pub fn new(
        id: impl Into<String>,
        storage: impl Into<PathBuf>,
        data: impl Into<PathBuf>,
        endpoints: Vec<String>,
    ) -> TaskExecutorConfig {
        TaskExecutorConfig {
            id: id.into(),
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            storage: storage.into(),
            data: data.into(),
            slots: 2,
            election: "jobmanager".to_owned(),
            endpoints,
        }
    }
}
