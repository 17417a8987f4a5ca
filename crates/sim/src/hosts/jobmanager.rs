//! A JobManager: the real process, with its components, its endpoints and its session with the store.

use std::time::Duration;

use palisade_runtime::{Heartbeats, JobManager, JobManagerConfig};

use super::{PORT, Process, STORAGE, address};
use crate::facts::Fact;

/// Faults here last up to a few seconds: some are shorter than the silence that is held against a TaskExecutor, some longer.
const HEARTBEATS: Heartbeats =
    Heartbeats { interval: Duration::from_millis(250), timeout: Duration::from_millis(1_500) };

/// Runs until the process is ended.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    let mut config = JobManagerConfig::new(process.who.to_string(), STORAGE, process.nodes());
    config.listen = format!("0.0.0.0:{PORT}");
    config.advertise = Some(address(process.who));
    config.heartbeats = HEARTBEATS;
    let manager = process.starts(|| JobManager::start(config.clone(), process.world.clone())).await?;
    let mut leads = manager.leads();
    while leads.changed().await.is_ok() {
        if let Some(token) = *leads.borrow_and_update() {
            process.witness.saw(process.who, Fact::LeadsJobs { token });
        }
    }
    Err(format!("{} ended by itself", process.who).into())
}
