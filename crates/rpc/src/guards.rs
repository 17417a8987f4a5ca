//! A worker's guards: for each (cluster, election) the highest token that it accepted. Keeps true: a guard rises only to a
//! token that the election confirmed, never falls, and what a raise protects waits until the raise is durable.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use palisade_fence::{
    ClusterId, DurableGuard, DurableGuardError, Guard, GuardVerdict, LeaderSource, LeaderView, Raise, Token,
};
use palisade_planted::{self as planted, Bug};
use palisade_world::{Task, World};
use tokio::sync::watch;

use crate::inbound::Claim;
use crate::{Backoff, RpcError};

/// One election that a worker obeys. A worker may serve several leaders: of several elections, and of elections of one name in
/// several clusters.
pub struct GuardSpec {
    /// Who confirms tokens; names the election.
    pub source: Arc<dyn LeaderSource>,
    /// The cluster, if it is known; else it is learnt from the first linearizable read and kept.
    pub cluster: Option<ClusterId>,
    /// Needed if anything that the guard protects outlives this process. Without it, nothing is served until the election
    /// has been read.
    pub durable: Option<Arc<dyn DurableGuard>>,
}

/// The guards of a process, shared by its endpoints; they rise from the observe streams too. Cheap to clone; the streams are
/// followed until the last clone is dropped.
#[derive(Clone)]
pub struct Guards(Arc<Inner>);

struct Inner {
    entries: Vec<Arc<Entry>>,
    raises: Arc<watch::Sender<u64>>,
    _followers: Vec<Task<()>>,
}

/// One guard with all that is needed to raise it.
struct Entry {
    election: Arc<str>,
    source: Arc<dyn LeaderSource>,
    durable: Option<Arc<dyn DurableGuard>>,
    /// Zero: not known yet. Set once.
    cluster: AtomicU64,
    /// The highest accepted token; zero: none. Every message reads it, so it needs no lock. Invariant: it never falls, and it
    /// rises inside of a change of `raises`: whoever sees the one sees the other.
    highest: AtomicU64,
    /// Whether the durable guard has been read for this cluster. A guard that may have accepted more than it remembers must
    /// not be raised from a stream, which may lag: only from a linearizable read.
    remembered: AtomicBool,
    /// Held while a raise is written down; messages under the present token go on being judged.
    raising: Mutex<()>,
    /// Counts the raises of all guards of the set.
    raises: Arc<watch::Sender<u64>>,
}

/// The fence that a step runs under: which guard, which token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) guard: usize,
    pub(crate) token: Token,
}

/// A guard's answer to a message.
pub(crate) enum Judged {
    Admit(Held),
    Confirm(usize),
    Refuse(RpcError),
}

impl Guards {
    /// Guards for these elections, and follows their observe streams.
    ///
    /// Fails if a durable guard of a known cluster cannot be read: a worker that may have forgotten a token must not serve.
    pub fn new(specs: Vec<GuardSpec>, world: &World) -> Result<Guards, DurableGuardError> {
        let raises = Arc::new(watch::Sender::new(0));
        let mut entries = Vec::new();
        let mut followers = Vec::new();
        for spec in specs {
            let entry = Arc::new(Entry {
                election: Arc::from(spec.source.election()),
                source: spec.source,
                durable: spec.durable,
                cluster: AtomicU64::new(0),
                highest: AtomicU64::new(0),
                remembered: AtomicBool::new(false),
                raising: Mutex::new(()),
                raises: raises.clone(),
            });
            if let Some(cluster) = spec.cluster {
                entry.belongs_to(cluster)?;
            }
            followers.push(world.spawn("guard follower", follow(entry.clone(), world.clone())));
            entries.push(entry);
        }
        Ok(Guards(Arc::new(Inner { entries, raises, _followers: followers })))
    }

    /// The highest accepted token of an election; where several clusters have one of that name, of the first.
    pub fn highest(&self, election: &str) -> Option<Token> {
        self.named(election).next()?.highest()
    }

    /// The highest accepted token of a cluster's election. `None` also while that guard has not met its cluster.
    pub fn highest_of(&self, cluster: ClusterId, election: &str) -> Option<Token> {
        self.named(election).find(|entry| entry.cluster() == Some(cluster))?.highest()
    }

    /// Resolves when the guard of `election` stands at `token` or above. Never, if there is no such guard.
    pub async fn raised_to(&self, election: &str, token: Token) {
        let Some(entry) = self.named(election).next() else {
            return std::future::pending().await;
        };
        let mut changed = self.watch();
        while entry.highest() < Some(token) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn named<'a>(&'a self, election: &'a str) -> impl Iterator<Item = &'a Arc<Entry>> {
        self.0.entries.iter().filter(move |entry| *entry.election == *election)
    }

    /// The guard that a message means: of the cluster that it names, or of one that is not known yet.
    pub(crate) fn find(&self, claim: &Claim) -> Result<usize, RpcError> {
        let not_leader = RpcError::NotLeader { current: None, leader: None };
        let mut found = None;
        for (index, entry) in self.0.entries.iter().enumerate() {
            if *entry.election != *claim.election {
                continue;
            }
            match (claim.cluster, entry.cluster()) {
                (Some(claimed), Some(own)) if claimed == own => return Ok(index),
                (Some(_), Some(_)) => {}
                (None, _) if found.is_some() => {
                    let why = "there are guards for this election in several clusters: name one".to_owned();
                    return Err(RpcError::Invalid { why });
                }
                (Some(_), None) | (None, _) => found = found.or(Some(index)),
            }
        }
        found.ok_or(not_leader)
    }

    pub(crate) fn elections(&self) -> Vec<Arc<str>> {
        self.0.entries.iter().map(|entry| entry.election.clone()).collect()
    }

    /// The cluster of a guard, once it is known.
    pub(crate) fn cluster(&self, guard: usize) -> Option<ClusterId> {
        self.0.entries[guard].cluster()
    }

    pub(crate) fn election(&self, guard: usize) -> &Arc<str> {
        &self.0.entries[guard].election
    }

    pub(crate) fn source(&self, guard: usize) -> Arc<dyn LeaderSource> {
        self.0.entries[guard].source.clone()
    }

    /// Counts raises: wakes when any guard rises.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.0.raises.subscribe()
    }

    /// How often any guard has risen.
    pub(crate) fn raises(&self) -> u64 {
        *self.0.raises.borrow()
    }

    /// Judges a message by the table; changes nothing.
    pub(crate) fn judge(&self, claim: &Claim) -> Judged {
        let Some(token) = claim.token else { return Judged::Refuse(RpcError::NoToken("a token")) };
        if claim.election.is_empty() {
            return Judged::Refuse(RpcError::NoToken("an election"));
        }
        let index = match self.find(claim) {
            Ok(index) => index,
            Err(error) => return Judged::Refuse(error),
        };
        let entry = &self.0.entries[index];
        if planted::is(Bug::CompareWithNotEqual) && entry.highest().is_some_and(|highest| highest != token) {
            entry.highest.store(token.get(), Ordering::SeqCst);
        }
        match Guard::restored(entry.highest()).check(token) {
            GuardVerdict::Admit => Judged::Admit(Held { guard: index, token }),
            GuardVerdict::Stale { current } => {
                Judged::Refuse(RpcError::Stale { current: Some(current), leader: entry.leader() })
            }
            GuardVerdict::Confirm if planted::is(Bug::BelieveAnyToken) => {
                entry.rise(token);
                Judged::Admit(Held { guard: index, token })
            }
            GuardVerdict::Confirm => Judged::Confirm(index),
        }
    }

    /// Whether a step may still run: its token is the highest accepted one.
    pub(crate) fn holds(&self, held: Held) -> Result<(), RpcError> {
        let entry = &self.0.entries[held.guard];
        let highest = entry.highest();
        if highest == Some(held.token) || planted::is(Bug::StepWithoutCheck) {
            return Ok(());
        }
        Err(RpcError::Superseded { current: highest, leader: entry.leader() })
    }

    /// Raises from what the observe stream has brought, if that may be trusted.
    pub(crate) fn learn(&self, guard: usize) -> Result<(), RpcError> {
        let entry = &self.0.entries[guard];
        match entry.source.latest() {
            Some(view) if entry.may_learn() => entry.raise(&view),
            Some(_) | None => Ok(()),
        }
    }

    /// Raises from a linearizable read.
    pub(crate) fn confirm(&self, guard: usize, view: &LeaderView) -> Result<(), RpcError> {
        self.0.entries[guard].raise(view)
    }

    /// The refusal of a token that was not confirmed.
    pub(crate) fn ahead(&self, guard: usize) -> RpcError {
        let entry = &self.0.entries[guard];
        RpcError::Ahead { current: entry.highest(), leader: entry.leader() }
    }
}

impl Entry {
    fn highest(&self) -> Option<Token> {
        Token::from_wire(self.highest.load(Ordering::Acquire))
    }

    fn cluster(&self) -> Option<ClusterId> {
        Some(ClusterId(self.cluster.load(Ordering::Acquire))).filter(|cluster| *cluster != ClusterId::default())
    }

    /// Where the leader is, as far as the stream knows.
    fn leader(&self) -> Option<String> {
        self.source.latest().map(|view| view.address).filter(|address| !address.is_empty())
    }

    /// Fixes the cluster, and remembers what an earlier life of this worker accepted from it.
    fn belongs_to(&self, cluster: ClusterId) -> Result<(), DurableGuardError> {
        let remembered = match &self.durable {
            Some(durable) => Some(durable.load(cluster, &self.election)?),
            None => None,
        };
        if let Some(highest) = remembered {
            self.highest.store(highest.map_or(0, Token::get), Ordering::Release);
            self.remembered.store(true, Ordering::Release);
        }
        self.cluster.store(cluster.0, Ordering::Release);
        Ok(())
    }

    /// A stream may lag behind what this guard has accepted before it forgot: then only a read will do.
    fn may_learn(&self) -> bool {
        self.cluster().is_some() && (self.remembered.load(Ordering::Acquire) || self.highest().is_some())
    }

    /// Durable first, then visible. Views of another cluster and of no leader change nothing.
    fn raise(&self, view: &LeaderView) -> Result<(), RpcError> {
        let Some(token) = view.token else { return Ok(()) };
        let _one_at_a_time = self.raising.lock().unwrap_or_else(PoisonError::into_inner);
        let not_durable = |error: DurableGuardError| RpcError::GuardNotDurable { why: error.why };
        match self.cluster() {
            None => self.belongs_to(view.cluster).map_err(not_durable)?,
            Some(own) if own != view.cluster => return Ok(()),
            Some(_) => {}
        }
        if self.highest() >= Some(token) {
            return Ok(());
        }
        if let Some(durable) = self.durable.as_ref().filter(|_| !planted::is(Bug::GuardForgets)) {
            durable.raise(view.cluster, &self.election, token).map_err(not_durable)?;
        }
        self.rise(token);
        Ok(())
    }

    /// Makes a raise visible.
    fn rise(&self, token: Token) {
        if let Raise::Raised { from } = Guard::restored(self.highest()).raise(token) {
            tracing::info!(election = %self.election, %token, ?from, "guard raised");
            // Both at once: an endpoint that admits a message under the new token must also see that lower ones are to be
            // dropped before it runs.
            self.raises.send_modify(|raises| {
                self.highest.store(token.get(), Ordering::Release);
                *raises += 1;
            });
        }
    }
}

/// Fencing by knowledge: a delayed packet is refused even if the successor has not called yet. A raise that could not be written
/// down is tried again until it is, or until there is something newer.
async fn follow(entry: Arc<Entry>, world: World) {
    let (mut seen, mut unwritten, mut pauses) = (0, None, Backoff::default());
    loop {
        let view = match unwritten.take() {
            None => entry.source.changed(seen).await,
            Some(view) => {
                let pause = pauses.pause(&world);
                world.timeout(pause, entry.source.changed(seen)).await.unwrap_or(view)
            }
        };
        seen = view.seq.max(1); // zero would ask for any view again
        // What the stream brings is true, if perhaps late: with no memory it may raise the guard, but to a token that is
        // lower than one this worker accepted before it restarted. So a guard that has forgotten waits for a read.
        if !entry.may_learn() || planted::is(Bug::DeafGuard) {
            continue;
        }
        match entry.raise(&view) {
            Ok(()) => pauses.reset(),
            Err(error) => {
                tracing::error!(election = %entry.election, %error, "the guard did not rise with the election; trying again");
                unwritten = Some(view);
            }
        }
    }
}
