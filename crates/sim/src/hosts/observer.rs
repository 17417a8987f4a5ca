//! An observer: follows the election from outside.

use std::time::Duration;

use palisade_client::ObservedKind;

use super::Process;
use super::candidate::ELECTION;
use crate::facts::Fact;

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    let client = process.client();
    let mut observer = client.observe(ELECTION);
    loop {
        match observer.next().await {
            Ok(observed) => {
                if let ObservedKind::Elected { leader, .. } = observed.kind {
                    let fact = Fact::Elected { candidate: leader.candidate, token: leader.token, seq: leader.seq };
                    process.witness.saw(process.who, fact);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "observing again");
                process.world.sleep(Duration::from_millis(50)).await;
                observer = client.observe(ELECTION);
            }
        }
    }
}
