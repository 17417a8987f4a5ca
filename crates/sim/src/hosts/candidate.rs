//! A candidate: campaigns, reports what it believes, resigns now and then, campaigns again.
//!
//! While it leads, and deliberately for as long after that as nobody tells it to stop, it writes to a key under its token and
//! calls all ledgers: the leader that does not know that it was succeeded is what tokens are for.

use std::sync::Arc;
use std::time::Duration;

use palisade_client::{
    CampaignOptions, Client, ErrorKind, Leadership, LeadershipState, OnDisconnect, PutOptions, SessionOptions, Value,
};
use palisade_fence::Fence;
use palisade_world::Task;

use super::Process;
use crate::facts::Fact;
use crate::ledger::Tape;
use crate::ledger::caller::Caller;
use crate::phase::Phase;
use crate::plan::Role;

/// The one election.
pub const ELECTION: &str = "sim";
/// The key that leaders write under their tokens.
const KEY: &[u8] = b"sim/fenced";
/// Between two fenced writes, and as much again at random.
const PAUSE: Duration = Duration::from_millis(40);

/// Runs until the process is ended.
pub(crate) async fn run(process: Process, tape: Tape) -> turmoil::Result {
    let client = process.client();
    let mut work = Work { writes: None, calls: Vec::new(), tape };
    loop {
        if let Err(error) = lead_once(&process, &client, &mut work).await {
            tracing::debug!(who = %process.who, %error, "campaigning again");
            process.world.sleep(Duration::from_millis(20) + process.world.jitter(Duration::from_millis(30))).await;
        }
    }
}

/// What is done under the tokens of this process. It is not stopped when a leadership ends.
struct Work {
    /// Of the last leadership.
    writes: Option<Task<()>>,
    /// Of all leaderships that some ledger still takes for the newest.
    calls: Vec<Task<()>>,
    tape: Tape,
}

impl Work {
    fn begin(&mut self, process: &Process, client: &Client, fence: &Fence) {
        let writing = write(process.clone(), fence.clone(), client.clone());
        self.writes = Some(process.world.spawn("fenced writes", writing));
        self.calls.retain(|calling| !calling.is_finished());
        if process.plan.count(Role::Ledger) == 0 {
            return;
        }
        let election = Arc::new(client.follow(ELECTION));
        self.calls.extend(process.plan.all(Role::Ledger).map(|ledger| {
            let (process, fence, tape) = (process.clone(), fence.clone(), self.tape.clone());
            let caller = Caller { process: process.clone(), ledger, fence, tape };
            process.world.spawn("fenced calls", caller.run(election.clone()))
        }));
    }
}

async fn lead_once(process: &Process, client: &Client, work: &mut Work) -> Result<(), palisade_client::Error> {
    let (name, world) = (process.name(), &process.world);
    let ttl = Duration::from_millis(600 + world.random_u64() % 900);
    // Only who keeps until the TTL has a clock to trust; the others rely on their tokens alone.
    let on_disconnect = match world.random_u64() % 3 {
        0 => OnDisconnect::ReleaseAfter(Duration::from_millis(world.random_u64() % 300)),
        _ => OnDisconnect::KeepUntilTtl,
    };
    let session = client.open_session(SessionOptions { ttl, on_disconnect }).await?;
    let options =
        CampaignOptions { election: ELECTION.into(), candidate_id: name.clone(), value: Value::default(), priority: 0 };
    let leadership = session.campaign(options).await?;
    let grant = leadership.grant();
    let (token, seq) = (grant.token, grant.seq);
    process.witness.saw(process.who, Fact::Granted { candidate: name.clone(), token, seq });
    work.begin(process, client, &leadership.fence());
    if hold(process, &leadership, on_disconnect).await == Left::ByItself {
        process.witness.saw(process.who, Fact::Resigns { candidate: name, token });
        leadership.resign().await?;
    } else {
        process.witness.saw(process.who, Fact::Lost { candidate: name, token });
    }
    session.close().await
}

/// Writes under a token until the store says that it is stale.
async fn write(process: Process, fence: Fence, client: Client) {
    let token = fence.token;
    loop {
        let value = process.name().into_bytes();
        let put = PutOptions { key: KEY.to_vec(), value, fence: Some(fence.clone()), session: None };
        match client.put(put).await {
            Ok(put) => process.witness.saw(process.who, Fact::WroteFenced { token, seq: put.header.seq }),
            Err(error) if error.kind == ErrorKind::StaleToken => {
                let fact = Fact::RefusedFenced { token, current: error.current_token };
                return process.witness.saw(process.who, fact);
            }
            Err(error) => tracing::debug!(who = %process.who, %error, "a fenced write failed"),
        }
        process.world.sleep(PAUSE + process.world.jitter(PAUSE)).await;
    }
}

/// How a leadership ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    ByItself,
    Lost,
}

/// Reports every deadline that can be trusted, until it is time to resign or the leadership is lost.
async fn hold(process: &Process, leadership: &Leadership, on_disconnect: OnDisconnect) -> Left {
    let (world, token) = (&process.world, leadership.fence().token);
    let (mut state, mut phase) = (leadership.state(), process.phase.clone());
    let resign_at = world.now() + Duration::from_millis(300 + world.random_u64() % 3_000);
    loop {
        let now = state.borrow_and_update().clone();
        match now {
            LeadershipState::Held { deadline } | LeadershipState::Suspect { deadline } => {
                if on_disconnect == OnDisconnect::KeepUntilTtl {
                    let (candidate, until) = (process.name(), process.simulated(deadline));
                    process.witness.saw(process.who, Fact::Believes { candidate, token, until });
                }
            }
            LeadershipState::Lost { .. } => return Left::Lost,
        }
        let resting = *phase.borrow_and_update() == Phase::Rest;
        tokio::select! {
            biased;
            changed = state.changed() => if changed.is_err() { return Left::Lost },
            Ok(()) = phase.changed() => {}
            () = world.sleep_until(resign_at), if !resting => return Left::ByItself,
        }
    }
}
