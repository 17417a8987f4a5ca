//! A candidate with a *keep until the TTL* session: campaigns, reports what it believes, resigns now and then, campaigns again.

use std::time::Duration;

use palisade_client::{CampaignOptions, Client, Leadership, LeadershipState, OnDisconnect, SessionOptions, Value};
use palisade_world::World;

use super::client;
use crate::invariants::{Fact, Witness};
use crate::world::simulated;

/// The one election.
pub const ELECTION: &str = "sim";

/// Runs until the host is crashed or the simulation ends.
pub async fn run(name: String, seed: u64, witness: Witness) -> turmoil::Result {
    let world = simulated(seed);
    let client = client(&world);
    loop {
        if let Err(error) = lead_once(&name, &client, &world, &witness).await {
            tracing::debug!(name, %error, "campaigning again");
            world.sleep(Duration::from_millis(20) + world.jitter(Duration::from_millis(30))).await;
        }
    }
}

async fn lead_once(
    name: &str,
    client: &Client,
    world: &World,
    witness: &Witness,
) -> Result<(), palisade_client::Error> {
    let ttl = Duration::from_millis(600 + world.random_u64() % 900);
    let session = client.open_session(SessionOptions { ttl, on_disconnect: OnDisconnect::KeepUntilTtl }).await?;
    let options = CampaignOptions {
        election: ELECTION.into(),
        candidate_id: name.to_owned(),
        value: Value::default(),
        priority: 0,
    };
    let leadership = session.campaign(options).await?;
    let grant = leadership.grant();
    witness.saw(name, Fact::Granted { candidate: name.to_owned(), token: grant.token, seq: grant.seq });
    let resign_after = Duration::from_millis(300 + world.random_u64() % 3_000);
    let resigns = hold(name, &leadership, witness, world, resign_after).await;
    witness.saw(name, Fact::Disbelieves { candidate: name.to_owned(), token: grant.token });
    if resigns {
        leadership.resign().await?;
    }
    session.close().await
}

/// Reports every deadline; `true` when it is time to resign, `false` when the leadership was lost.
async fn hold(name: &str, leadership: &Leadership, witness: &Witness, world: &World, resign_after: Duration) -> bool {
    let token = leadership.fence().token;
    let mut state = leadership.state();
    let resign_at = world.now() + resign_after;
    loop {
        let now = state.borrow_and_update().clone();
        match now {
            LeadershipState::Held { deadline: until } | LeadershipState::Suspect { deadline: until } => {
                witness.saw(name, Fact::Believes { candidate: name.to_owned(), token, until });
            }
            LeadershipState::Lost { .. } => return false,
        }
        tokio::select! {
            biased;
            changed = state.changed() => if changed.is_err() { return false },
            () = world.sleep_until(resign_at) => return true,
        }
    }
}
