//! A candidate: opens a session, campaigns in one election or in both, reports what it believes, proclaims, resigns now and then
//! and campaigns again, until its session ends or has lived long enough. Sometimes it loses patience while it waits. What others
//! ask of it, it does a little later.
//!
//! While it leads, and deliberately for as long after that as nobody tells it to stop, it writes to a key under its token and
//! calls all ledgers: the leader that does not know that it was succeeded is what tokens are for.

use std::sync::Arc;
use std::time::Duration;

use palisade_client::{
    CampaignOptions, Client, EndRequest, ErrorKind, Leadership, LeadershipState, OnDisconnect, PutOptions, Session,
    SessionOptions, Value,
};
use palisade_fence::{Fence, TokenSource};
use palisade_world::Task;

use super::Process;
use crate::facts::Fact;
use crate::ledger::Tape;
use crate::ledger::caller::Caller;
use crate::phase::Phase;
use crate::plan::Role;

/// The elections. Everybody stands in the first one; who stands in both loses both with one session.
pub const ELECTIONS: [&str; 2] = [ELECTION, "sim-too"];
/// The first one, whose tokens the ledgers heed.
pub const ELECTION: &str = "sim";

/// A holder does what it is asked to within this time.
const OBEYS_WITHIN: Duration = Duration::from_millis(400);

/// How long a candidate waits before it loses patience, at most, if it does.
const IMPATIENCE: Duration = Duration::from_millis(600);

/// Between two fenced writes, and as much again at random.
const PAUSE: Duration = Duration::from_millis(40);

/// Runs until the process is ended.
pub(crate) async fn run(process: Process, tape: Tape) -> turmoil::Result {
    let client = process.client();
    let new = || Work { writes: None, calls: Vec::new(), tape: tape.clone() };
    let mut work = [new(), new()];
    loop {
        if let Err(error) = live_once(&process, &client, &mut work).await {
            tracing::debug!(who = %process.who, %error, "campaigning again");
            process.world.sleep(Duration::from_millis(20) + process.world.jitter(Duration::from_millis(30))).await;
        }
    }
}

/// What is done under the tokens of an election. It is not stopped when a leadership ends.
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
        // Ledgers heed the tokens of the first election.
        if process.plan.count(Role::Ledger) == 0 || fence.election != ELECTION {
            return;
        }
        let election = Arc::new(client.follow(&fence.election));
        self.calls.extend(process.plan.all(Role::Ledger).map(|ledger| {
            let (process, fence, tape) = (process.clone(), fence.clone(), self.tape.clone());
            let caller = Caller { process: process.clone(), ledger, fence, tape };
            process.world.spawn("fenced calls", caller.run(election.clone()))
        }));
    }
}

/// One session.
struct Life<'a> {
    process: &'a Process,
    client: &'a Client,
    session: Session,
    on_disconnect: OnDisconnect,
    /// When it closes its session.
    until: Duration,
}

async fn live_once(
    process: &Process,
    client: &Client,
    [first, second]: &mut [Work; 2],
) -> Result<(), palisade_client::Error> {
    let world = &process.world;
    // Some so short that a pause which deposes nobody is longer than what is left of it, down to the least that is allowed.
    let longest = if process.one_in(3) { 200 } else { 1_200 };
    let ttl = Duration::from_millis(200 + world.random_u64() % longest);
    // Only who keeps until the TTL has a clock to trust; the others rely on their tokens alone.
    let on_disconnect = match world.random_u64() % 3 {
        0 => OnDisconnect::ReleaseAfter(Duration::from_millis(world.random_u64() % 300)),
        _ => OnDisconnect::KeepUntilTtl,
    };
    // An id of its own, that it may have used before; never another's.
    let given_id = process.one_in(4).then(|| process.who.number as u64 * 2 + world.random_u64() % 2);
    let session = process.opens(client, SessionOptions { given_id, ttl, on_disconnect }).await?;
    if given_id.is_some() {
        process.witness.count("sessions with given ids");
    }
    let until = world.now() + Duration::from_millis(1_000 + world.random_u64() % 5_000);
    let life = Life { process, client, session, on_disconnect, until };
    let in_both = world.random_u64().is_multiple_of(2);
    let too = async { if in_both { life.stand(ELECTIONS[1], second).await } else { Ok(()) } };
    let (one, other) = tokio::join!(life.stand(ELECTIONS[0], first), too);
    process.closes(&life.session).await?;
    one.and(other)
}

impl Life<'_> {
    /// Leads an election again and again, until the session has ended or is to be closed.
    async fn stand(&self, election: &'static str, work: &mut Work) -> Result<(), palisade_client::Error> {
        let (process, world, candidate) = (self.process, &self.process.world, self.process.name());
        let saw = |fact| process.witness.saw(process.who, fact);
        loop {
            let options = CampaignOptions {
                election: election.into(),
                candidate_id: candidate.clone(),
                value: Value::default(),
                priority: i32::try_from(world.random_u64() % 3).expect("it is small"),
            };
            // Now and then it loses patience and stands again later.
            let patience = if process.one_in(3) { world.jitter(IMPATIENCE) } else { Duration::MAX };
            let leadership = tokio::select! {
                biased;
                granted = self.session.campaign(options) => granted?,
                () = unless_at_rest(process, self.until) => return Ok(()),
                () = self.wished_away() => return Ok(()),
                () = unless_at_rest(process, world.now().saturating_add(patience)) => {
                    process.witness.count("campaigns abandoned");
                    // For good, now and then: nobody comes back who would take the place that it left.
                    if election == ELECTIONS[1] && process.one_in(2) {
                        return Ok(());
                    }
                    world.sleep(world.jitter(IMPATIENCE)).await;
                    continue;
                }
            };
            let (token, seq) = (leadership.grant().token, leadership.grant().seq);
            let (election, candidate) = (election.to_owned(), candidate.clone());
            saw(Fact::Granted { election: election.clone(), candidate: candidate.clone(), token, seq });
            work.begin(process, self.client, &leadership.fence());
            let leave_at = self.until.min(world.now() + Duration::from_millis(300 + world.random_u64() % 3_000));
            let left = tokio::select! {
                biased;
                left = self.hold(&leadership, leave_at) => left,
                left = proclaim(process, &leadership) => left,
            };
            match left {
                Left::Lost => {
                    // Its client may end it for that.
                    process.leaves(&self.session);
                    saw(Fact::Lost { election, candidate, token });
                    return Ok(());
                }
                Left::ByItself => {
                    let (mut state, source) = (leadership.state(), leadership.token_source());
                    // Dropping it resigns, too; nobody says when.
                    let resigning = async {
                        if world.random_u64().is_multiple_of(4) {
                            drop(leadership);
                            return Ok(());
                        }
                        leadership.resign().await
                    };
                    // The rest of the process goes on leading for as long as it is given the token.
                    let told = async {
                        let _ = state.wait_for(|state| matches!(state, LeadershipState::Lost { .. })).await;
                        if source.token().is_none() {
                            saw(Fact::Resigns { election, candidate, token });
                        }
                    };
                    tokio::join!(resigning, told).0?;
                }
            }
            let is_over = world.now() >= self.until && *process.phase.borrow() != Phase::Rest;
            if is_over || self.session.asked().borrow().is_some() {
                return Ok(());
            }
        }
    }

    /// Resolves some time after somebody has asked for the end of the session.
    async fn wished_away(&self) {
        let mut asked = self.session.asked();
        match asked.wait_for(Option::is_some).await {
            Ok(_) => {}
            // It is over, which is told elsewhere.
            Err(_) => return std::future::pending().await,
        }
        self.process.world.sleep(self.process.world.jitter(OBEYS_WITHIN)).await;
    }

    /// Reports every deadline that can be trusted, and what is asked of it, until it is time to leave or the leadership is lost.
    async fn hold(&self, leadership: &Leadership, leave_at: Duration) -> Left {
        let (process, token) = (self.process, leadership.token());
        let (mut state, mut clock) = (leadership.state(), process.clock_rates());
        let (mut requested, mut asked_away) = (leadership.requested(), std::pin::pin!(self.wished_away()));
        let (mut told, mut obeys_at) = (None, None);
        let mut leave = std::pin::pin!(unless_at_rest(process, leave_at));
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                LeadershipState::Held { deadline } | LeadershipState::Suspect { deadline } => {
                    if self.on_disconnect == OnDisconnect::KeepUntilTtl {
                        let election = leadership.grant().election.clone();
                        let (candidate, until) = (process.name(), process.simulated(deadline));
                        process.witness.saw(process.who, Fact::Believes { election, candidate, token, until });
                    }
                }
                LeadershipState::Lost { .. } => return Left::Lost,
            }
            let request = requested.borrow_and_update().clone();
            if let Some(EndRequest { to }) = request.filter(|request| told.as_ref() != Some(request)) {
                told = Some(EndRequest { to: to.clone() });
                process.witness.saw(process.who, Fact::EndAsked { candidate: process.name(), token, to });
                obeys_at.get_or_insert(process.world.now() + process.world.jitter(OBEYS_WITHIN));
            }
            tokio::select! {
                biased;
                changed = state.changed() => if changed.is_err() { return Left::Lost },
                // The same deadline is another simulated time.
                Ok(()) = clock.changed() => {}
                Ok(()) = requested.changed() => {}
                () = &mut leave => return Left::ByItself,
                () = &mut asked_away => return Left::ByItself,
                () = process.world.sleep_until(obeys_at.unwrap_or(Duration::MAX)), if obeys_at.is_some() => {
                    return Left::ByItself;
                }
            }
        }
    }
}

/// How a leadership ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    ByItself,
    Lost,
}

/// Resolves at that time, but never once everything is to come to rest.
pub(super) async fn unless_at_rest(process: &Process, at: Duration) {
    let mut phase = process.phase.clone();
    tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase == Phase::Rest) => std::future::pending().await,
        () = process.world.sleep_until(at) => {}
    }
}

/// Sometimes tells observers something that nobody else ever says. It does not resolve: the leadership goes on.
async fn proclaim(process: &Process, leadership: &Leadership) -> Left {
    if process.world.random_u64().is_multiple_of(2) {
        let value = Value::at(format!("{}/{}", process.name(), leadership.token()));
        if let Err(error) = leadership.proclaim(value).await {
            tracing::debug!(who = %process.who, %error, "not proclaimed");
        }
    }
    std::future::pending().await
}

/// Writes under a token until the store says that it is stale.
async fn write(process: Process, fence: Fence, client: Client) {
    let (token, key) = (fence.token, format!("fenced/{}", fence.election).into_bytes());
    loop {
        let put = PutOptions { fence: Some(fence.clone()), ..PutOptions::new(key.clone(), process.name()) };
        match client.put(put).await {
            Ok(put) => {
                let (election, seq) = (fence.election.clone(), put.header.seq);
                process.witness.saw(process.who, Fact::WroteFenced { election, token, seq });
            }
            Err(error) if error.kind == ErrorKind::StaleToken => {
                let fact = Fact::RefusedFenced { token, current: error.current_token };
                return process.witness.saw(process.who, fact);
            }
            Err(error) => tracing::debug!(who = %process.who, %error, "a fenced write failed"),
        }
        process.world.sleep(PAUSE + process.world.jitter(PAUSE)).await;
    }
}
