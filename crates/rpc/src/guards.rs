//! A worker's guards: for each (cluster, election) the highest token that it accepted. Keeps true: a guard rises only to a
//! token that the election confirmed, never falls, and what a raise protects waits until the raise is durable.

use std::sync::{Arc, Mutex, PoisonError};

use palisade_fence::{ClusterId, Guard, GuardVerdict, LeaderSource, LeaderView, Raise, Token};
use palisade_planted::{self as planted, Bug};
use palisade_world::{Task, World};
use tokio::sync::watch;

use crate::RpcError;
use crate::inbound::Claim;

/// A guard that outlives the process. Called only when a leader changes, on the task that changes it: each call may block for
/// one write to disk, not longer.
pub trait DurableGuard: Send + Sync + 'static {
    /// The highest token that was accepted in an earlier life; `None` if there was none.
    fn load(&self, cluster: ClusterId, election: &str) -> Result<Option<Token>, DurableGuardError>;

    /// Writes a higher token down; returns when it would survive a power cut. Never called with a lower one.
    fn raise(&self, cluster: ClusterId, election: &str, token: Token) -> Result<(), DurableGuardError>;
}

/// The guard could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guard: {why}")]
pub struct DurableGuardError {
    /// The disk's words.
    pub why: String,
}

/// One election that a worker obeys.
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
    state: Mutex<State>,
    /// Held while a raise is written down; `state` is not, so that messages under the present token go on being judged.
    raising: Mutex<()>,
    /// Counts the raises of all guards of the set.
    raises: Arc<watch::Sender<u64>>,
}

struct State {
    cluster: Option<ClusterId>,
    guard: Guard,
    /// Whether the durable guard has been read for this cluster. A guard that may have accepted more than it remembers must
    /// not be raised from a stream, which may lag: only from a linearizable read.
    remembered: bool,
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
                state: Mutex::new(State { cluster: None, guard: Guard::default(), remembered: false }),
                raising: Mutex::new(()),
                raises: raises.clone(),
            });
            if let Some(cluster) = spec.cluster {
                entry.belongs_to(cluster)?;
            }
            followers.push(world.spawn("guard follower", follow(entry.clone())));
            entries.push(entry);
        }
        Ok(Guards(Arc::new(Inner { entries, raises, _followers: followers })))
    }

    /// The highest accepted token of an election.
    pub fn highest(&self, election: &str) -> Option<Token> {
        let entry = self.0.entries.iter().find(|entry| &*entry.election == election)?;
        entry.state().guard.highest()
    }

    /// Resolves when the guard of `election` stands at `token` or above. Never, if there is no such guard.
    pub async fn raised_to(&self, election: &str, token: Token) {
        let Some(entry) = self.0.entries.iter().find(|entry| &*entry.election == election) else {
            return std::future::pending().await;
        };
        let mut changed = self.watch();
        while entry.state().guard.highest() < Some(token) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    pub(crate) fn find(&self, election: &str) -> Option<usize> {
        self.0.entries.iter().position(|entry| &*entry.election == election)
    }

    pub(crate) fn elections(&self) -> Vec<Arc<str>> {
        self.0.entries.iter().map(|entry| entry.election.clone()).collect()
    }

    /// The cluster of a guard, once it is known.
    pub(crate) fn cluster(&self, guard: usize) -> Option<ClusterId> {
        self.0.entries[guard].state().cluster
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
        let Some(index) = self.find(&claim.election) else {
            return Judged::Refuse(RpcError::NotLeader { current: None, leader: None });
        };
        let entry = &self.0.entries[index];
        let mut state = entry.state();
        if let (Some(claimed), Some(own)) = (claim.cluster, state.cluster)
            && claimed != own
        {
            return Judged::Refuse(RpcError::NotLeader { current: None, leader: None });
        }
        if planted::is(Bug::CompareWithNotEqual) && state.guard.highest().is_some_and(|highest| highest != token) {
            state.guard = Guard::restored(Some(token));
        }
        let verdict = state.guard.check(token);
        drop(state);
        match verdict {
            GuardVerdict::Admit => Judged::Admit(Held { guard: index, token }),
            GuardVerdict::Stale { current } => {
                Judged::Refuse(RpcError::Stale { current: Some(current), leader: entry.leader() })
            }
            GuardVerdict::Confirm => Judged::Confirm(index),
        }
    }

    /// Whether a step may still run: its token is the highest accepted one.
    pub(crate) fn holds(&self, held: Held) -> Result<(), RpcError> {
        let entry = &self.0.entries[held.guard];
        let highest = entry.state().guard.highest();
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
        let current = entry.state().guard.highest();
        RpcError::Ahead { current, leader: entry.leader() }
    }
}

impl Entry {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut state = self.state();
        state.cluster = Some(cluster);
        if let Some(highest) = remembered {
            state.guard = Guard::restored(highest);
            state.remembered = true;
        }
        Ok(())
    }

    /// A stream may lag behind what this guard has accepted before it forgot: then only a read will do.
    fn may_learn(&self) -> bool {
        let state = self.state();
        state.cluster.is_some() && (state.remembered || state.guard.highest().is_some())
    }

    /// Durable first, then visible. Views of another cluster and of no leader change nothing.
    fn raise(&self, view: &LeaderView) -> Result<(), RpcError> {
        let Some(token) = view.token else { return Ok(()) };
        let _one_at_a_time = self.raising.lock().unwrap_or_else(PoisonError::into_inner);
        let not_durable = |error: DurableGuardError| RpcError::GuardNotDurable { why: error.why };
        let cluster = self.state().cluster;
        match cluster {
            None => self.belongs_to(view.cluster).map_err(not_durable)?,
            Some(own) if own != view.cluster => return Ok(()),
            Some(_) => {}
        }
        if self.state().guard.highest() >= Some(token) {
            return Ok(());
        }
        if let Some(durable) = self.durable.as_ref().filter(|_| !planted::is(Bug::GuardForgets)) {
            durable.raise(view.cluster, &self.election, token).map_err(not_durable)?;
        }
        let raised = self.state().guard.raise(token);
        if let Raise::Raised { from } = raised {
            tracing::info!(election = %self.election, %token, ?from, "guard raised");
            self.raises.send_modify(|raises| *raises += 1);
        }
        Ok(())
    }
}

/// Fencing by knowledge: a delayed packet is refused even if the successor has not called yet.
async fn follow(entry: Arc<Entry>) {
    let mut seen = 0;
    loop {
        let view = entry.source.changed(seen).await;
        seen = view.seq.max(1); // zero would ask for any view again
        // What the stream brings is true, if perhaps late: with no memory it may raise the guard, but to a token that is
        // lower than one this worker accepted before it restarted. So a guard that has forgotten waits for a read.
        if entry.may_learn()
            && let Err(error) = entry.raise(&view)
        {
            tracing::error!(election = %entry.election, %error, "the guard did not rise with the election");
        }
    }
}
