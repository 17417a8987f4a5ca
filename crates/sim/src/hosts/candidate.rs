//! A candidate with a *keep until the TTL* session: campaigns, reports what it believes, resigns now and then, campaigns again.
//!
//! While it leads, and deliberately for as long after that as nobody tells it to stop, it writes to a key under its token: the
//! leader that does not know that it was succeeded is what tokens are for.

use std::time::Duration;

use palisade_client::{
    CampaignOptions, Client, ErrorKind, Leadership, LeadershipState, OnDisconnect, PutOptions, SessionOptions, Value,
};
use palisade_fence::Fence;
use palisade_world::{Task, World};

use super::client;
use crate::invariants::{Fact, Witness};

/// The one election.
pub const ELECTION: &str = "sim";
/// The key that leaders write under their tokens.
const KEY: &[u8] = b"sim/fenced";
/// Between two fenced writes, and as much again at random.
const PAUSE: Duration = Duration::from_millis(40);

/// Runs until the host is crashed or the simulation ends.
pub async fn run(name: String, world: World, witness: Witness) -> turmoil::Result {
    let client = client(&world);
    // The writes of the last leadership go on during the next one, until the store refuses them.
    let mut writes = None;
    loop {
        if let Err(error) = lead_once(&name, &client, &world, &witness, &mut writes).await {
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
    writes: &mut Option<Task<()>>,
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
    let writing = write(name.to_owned(), leadership.fence(), client.clone(), world.clone(), witness.clone());
    *writes = Some(world.spawn("fenced writes", writing));
    let resign_after = Duration::from_millis(300 + world.random_u64() % 3_000);
    let resigns = hold(name, &leadership, witness, world, resign_after).await;
    witness.saw(name, Fact::Disbelieves { candidate: name.to_owned(), token: grant.token });
    if resigns {
        leadership.resign().await?;
    }
    session.close().await
}

/// Writes under a token until the store says that it is stale.
async fn write(name: String, fence: Fence, client: Client, world: World, witness: Witness) {
    let token = fence.token;
    loop {
        let value = name.clone().into_bytes();
        let put = PutOptions { key: KEY.to_vec(), value, fence: Some(fence.clone()), session: None };
        match client.put(put).await {
            Ok(put) => witness.saw(&name, Fact::WroteFenced { token, seq: put.header.seq }),
            Err(error) if error.kind == ErrorKind::StaleToken => {
                return witness.saw(&name, Fact::RefusedFenced { token, current: error.current_token });
            }
            Err(error) => tracing::debug!(name, %error, "a fenced write failed"),
        }
        world.sleep(PAUSE + world.jitter(PAUSE)).await;
    }
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
