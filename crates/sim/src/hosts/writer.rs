//! A writer: writes a rising number to one key and reads it back, and keeps honest books of what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palisade_client::PutOptions;
use palisade_world::World;

use super::client;
use crate::invariants::{Fact, Witness};

/// The one key.
pub const KEY: &str = "sim/number";

/// Runs until the simulation ends. `served` counts acknowledged writes, for the end of the run.
pub async fn run(world: World, witness: Witness, served: Arc<AtomicU64>) -> turmoil::Result {
    let client = client(&world);
    let mut acknowledged = 0;
    for number in 1.. {
        witness.saw("writer", Fact::Attempted { key: KEY.into(), number });
        let put = PutOptions { key: KEY.into(), value: number.to_string().into_bytes(), fence: None, session: None };
        match client.put(put).await {
            Ok(_) => {
                acknowledged = number;
                served.fetch_add(1, Ordering::Relaxed);
                witness.saw("writer", Fact::Acknowledged { key: KEY.into(), number });
            }
            Err(error) => tracing::debug!(%error, number, "a write failed"),
        }
        if let Ok(got) = client.get(KEY.into()).await {
            let text = got.kv.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).unwrap_or_default();
            let number = text.parse().unwrap_or(0);
            witness.saw("writer", Fact::Read { key: KEY.into(), number, acknowledged_before: acknowledged });
        }
        world.sleep(Duration::from_millis(5) + world.jitter(Duration::from_millis(40))).await;
    }
    Ok(())
}
