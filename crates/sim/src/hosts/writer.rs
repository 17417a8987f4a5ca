//! A writer: writes rising numbers to a few keys in turn and reads back what was acknowledged last, and keeps honest books of
//! what was acknowledged.

use std::time::Duration;

use palisade_client::PutOptions;

use super::Process;
use crate::facts::Fact;

/// So many keys take turns: what was acknowledged last is not overwritten by the attempts of a whole outage before it is read.
const KEYS: u64 = 16;

fn key(number: u64) -> String {
    format!("sim/number-{}", number % KEYS)
}

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    let (client, saw) = (process.client(), |fact| process.witness.saw(process.who, fact));
    let mut acknowledged = 0;
    for number in 1.. {
        saw(Fact::Attempted { key: key(number), number });
        let put =
            PutOptions { key: key(number).into(), value: number.to_string().into_bytes(), fence: None, session: None };
        // What the write before this one was told must still be true, also after an outage that this write ends.
        let before = acknowledged;
        match client.put(put).await {
            Ok(_) => {
                acknowledged = number;
                saw(Fact::Acknowledged { key: key(number), number });
            }
            Err(error) => tracing::debug!(%error, number, "a write failed"),
        }
        if before != 0
            && let Ok(got) = client.get(key(before).into()).await
        {
            let text = got.kv.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).unwrap_or_default();
            let number = text.parse().unwrap_or(0);
            saw(Fact::Read { key: key(before), number, acknowledged_before: before });
        }
        process.world.sleep(Duration::from_millis(5) + process.world.jitter(Duration::from_millis(40))).await;
    }
    Ok(())
}
