//! A TaskExecutor: the real process, with its slots, its tasks, its data exchange and its guard on disk.

use palisade_runtime::{TaskExecutor, TaskExecutorConfig};

use super::{PORT, Process, STORAGE, address};

/// Slots of each.
pub(crate) const SLOTS: u32 = 2;

/// Runs until the process is ended.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    let data = format!("/{}", process.who);
    let mut config = TaskExecutorConfig::new(process.who.to_string(), STORAGE, data, process.nodes());
    config.listen = format!("0.0.0.0:{PORT}");
    config.advertise = Some(address(process.who));
    config.slots = SLOTS;
    let _executor = process.starts(|| TaskExecutor::start(config.clone(), process.world.clone())).await?;
    std::future::pending().await
}
