//! An observer: follows the election from outside.

use palisade_client::ObservedKind;
use palisade_world::World;

use super::candidate::ELECTION;
use super::client;
use crate::invariants::{Fact, Witness};

/// Runs until the simulation ends.
pub async fn run(world: World, witness: Witness) -> turmoil::Result {
    let client = client(&world);
    let mut observer = client.observe(ELECTION);
    loop {
        match observer.next().await {
            Ok(observed) => {
                if let ObservedKind::Elected { leader, .. } = observed.kind {
                    witness.saw(
                        "observer",
                        Fact::Elected { candidate: leader.candidate, token: leader.token, seq: leader.seq },
                    );
                }
            }
            Err(error) => {
                tracing::debug!(%error, "observing again");
                world.sleep(std::time::Duration::from_millis(50)).await;
                observer = client.observe(ELECTION);
            }
        }
    }
}
