//! Who may come in: the table, for workers and for leaders. Keeps true: a call is admitted and entered among those that run in
//! one step; the first call under a higher token is admitted only when nothing under a lower one can take another step.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;

use palisade_fence::metadata::Claimed;
use palisade_fence::{
    ClusterId, Guard, GuardVerdict, LeaderFence, LeaderSource, LeaderVerdict, LeaderView, Token, TokenSource,
};
use tonic::Status;

use crate::Election;
use crate::election::Confirm;
use crate::refusal;
use crate::slot::End;

/// The fence that a call was admitted under; the layer leaves it in the request's extensions, so that a handler can name things
/// after the token or hand it on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// As the call named it; `None`: the receiver's own.
    pub cluster: Option<ClusterId>,
    /// Name of the election.
    pub election: String,
    /// The call's token.
    pub token: Token,
}

/// How a service is fenced.
pub(crate) enum Admission {
    Worker(Vec<Arc<Guarded>>),
    Leader(Leader),
}

/// A leader's service: its token is whatever it holds now.
pub(crate) struct Leader {
    pub(crate) election: String,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) tokens: Arc<dyn TokenSource>,
    /// For hints: where the present leader is.
    pub(crate) source: Option<Arc<dyn LeaderSource>>,
}

/// A worker's guard with all that is needed to raise it.
pub(crate) struct Guarded {
    election: Election,
    state: Mutex<State>,
    /// Held while a raise is written down; the state is not, so that calls under the present token go on.
    raising: Mutex<()>,
}

struct State {
    cluster: Option<ClusterId>,
    guard: Guard,
    /// What runs, by a number that no two share.
    running: BTreeMap<u64, (Token, Weak<dyn End>)>,
    next: u64,
}

/// What came of an attempt to enter.
enum Entered {
    In(u64),
    Stale(Token),
    Confirm,
    /// These run under lower tokens and must be gone first.
    After(Vec<(u64, Arc<dyn End>)>),
}

/// A call's place among those that run; given back when dropped.
pub(crate) struct Seat {
    pub(crate) admitted: Admitted,
    kind: Kind,
}

enum Kind {
    Guarded { by: Arc<Guarded>, number: u64 },
    Leads { by: Arc<Admission> },
}

impl Admission {
    pub(crate) fn worker(elections: impl IntoIterator<Item = Election>) -> Admission {
        let guarded = |election: Election| {
            let state = State { cluster: election.cluster, guard: election.guard, running: BTreeMap::new(), next: 0 };
            Arc::new(Guarded { election, state: Mutex::new(state), raising: Mutex::new(()) })
        };
        Admission::Worker(elections.into_iter().map(guarded).collect())
    }

    /// Judges a call and enters `work` among what runs. Dropping the future is harmless.
    pub(crate) async fn admit(self: &Arc<Self>, claimed: Claimed, work: Arc<dyn End>) -> Result<Seat, Status> {
        let Claimed { cluster, election, token } = claimed;
        let token = token.ok_or_else(|| refusal::invalid("palisade-token: a fenced service was called without one"))?;
        if election.is_empty() {
            return Err(refusal::invalid("palisade-election: a fenced service was called without one"));
        }
        let admitted = Admitted { cluster, election, token };
        let kind = match &**self {
            Admission::Leader(leader) => {
                leader.judge(&admitted)?;
                Kind::Leads { by: Arc::clone(self) }
            }
            Admission::Worker(guards) => {
                let by = Arc::clone(find(guards, &admitted)?);
                let number = by.admit(token, &work).await?;
                Kind::Guarded { by, number }
            }
        };
        Ok(Seat { admitted, kind })
    }

    /// The highest token accepted for an election of that name; a leader's own.
    pub(crate) fn highest(&self, election: &str) -> Option<Token> {
        match self {
            Admission::Leader(leader) if leader.election == election => leader.tokens.token(),
            Admission::Leader(_) => None,
            Admission::Worker(guards) => {
                let named = guards.iter().filter(|guarded| guarded.election.name == election);
                named.filter_map(|guarded| guarded.state().guard.highest()).max()
            }
        }
    }

    pub(crate) fn guards(&self) -> &[Arc<Guarded>] {
        match self {
            Admission::Worker(guards) => guards,
            Admission::Leader(_) => &[],
        }
    }
}

/// The guard that a call means: of its cluster, or of one that is not known yet.
fn find<'a>(guards: &'a [Arc<Guarded>], admitted: &Admitted) -> Result<&'a Arc<Guarded>, Status> {
    let named = || guards.iter().filter(|guarded| guarded.election.name == admitted.election);
    let none = || refusal::not_leader(None, None);
    match admitted.cluster {
        Some(cluster) => {
            let of = |known| named().find(move |guarded| guarded.state().cluster == known);
            of(Some(cluster)).or_else(|| of(None)).ok_or_else(none)
        }
        None if named().nth(1).is_some() => {
            Err(refusal::invalid("palisade-cluster: there are guards for this election in several clusters: name one"))
        }
        None => named().next().ok_or_else(none),
    }
}

impl Leader {
    fn judge(&self, admitted: &Admitted) -> Result<(), Status> {
        let view = self.source.as_ref().and_then(|source| source.latest());
        let hint = view.as_ref().map(|view| view.address.as_str()).filter(|address| !address.is_empty());
        let known = view.as_ref().and_then(|view| view.token);
        let foreign = matches!((admitted.cluster, self.cluster), (Some(named), Some(own)) if named != own);
        if admitted.election != self.election || foreign {
            return Err(refusal::not_leader(None, None));
        }
        let Some(own) = self.tokens.token() else { return Err(refusal::not_leader(known, hint)) };
        match LeaderFence::new(own).check(admitted.token) {
            LeaderVerdict::Admit => Ok(()),
            LeaderVerdict::Stale { current } => Err(refusal::stale(Some(current), hint)),
            LeaderVerdict::Ahead { current } => Err(refusal::ahead(Some(current), hint)),
            LeaderVerdict::NotLeader => Err(refusal::not_leader(known, hint)),
        }
    }
}

impl Guarded {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hint(&self) -> Option<String> {
        let Confirm::Election(source) = &self.election.confirm else { return None };
        source.latest().map(|view| view.address).filter(|address| !address.is_empty())
    }

    async fn admit(&self, token: Token, work: &Arc<dyn End>) -> Result<u64, Status> {
        self.learn()?;
        let mut asked = false;
        loop {
            match self.enter(token, work) {
                Entered::In(number) => return Ok(number),
                Entered::Stale(current) => return Err(refusal::stale(Some(current), self.hint().as_deref())),
                Entered::After(lower) => self.take_away(lower).await,
                Entered::Confirm if !asked => {
                    asked = true;
                    self.confirm(token).await?;
                }
                Entered::Confirm => {
                    let highest = self.state().guard.highest();
                    return Err(refusal::ahead(highest, self.hint().as_deref()));
                }
            }
        }
    }

    /// The check and the entry, in one step.
    fn enter(&self, token: Token, work: &Arc<dyn End>) -> Entered {
        let mut state = self.state();
        match state.guard.check(token) {
            GuardVerdict::Stale { current } => Entered::Stale(current),
            GuardVerdict::Confirm => Entered::Confirm,
            GuardVerdict::Admit => {
                let lower = state.below(token);
                if !lower.is_empty() {
                    return Entered::After(lower);
                }
                state.next += 1;
                let number = state.next;
                state.running.insert(number, (token, Arc::downgrade(work)));
                Entered::In(number)
            }
        }
    }

    /// Returns when none of them can take another step.
    async fn take_away(&self, lower: Vec<(u64, Arc<dyn End>)>) {
        for (number, work) in lower {
            while !work.end() {
                yield_now().await;
            }
            self.state().running.remove(&number);
        }
    }

    /// Raises the guard to `token` if that was granted.
    async fn confirm(&self, token: Token) -> Result<(), Status> {
        match &self.election.confirm {
            Confirm::Nobody => self.raise(None, token),
            Confirm::Hook(hook) if hook(token).await => self.raise(None, token),
            Confirm::Hook(_) => Ok(()),
            Confirm::Election(source) => match source.read().await {
                Ok(view) => self.accept(&view),
                // It stays unconfirmed.
                Err(_) => Ok(()),
            },
        }
    }

    /// What the election's stream has brought. It may lag behind what this worker accepted before it forgot: then only a read
    /// will do.
    fn learn(&self) -> Result<(), Status> {
        let Confirm::Election(source) = &self.election.confirm else { return Ok(()) };
        let remembers = self.election.durable.is_some() || self.state().guard.highest().is_some();
        match source.latest().filter(|_| remembers) {
            Some(view) => self.accept(&view),
            None => Ok(()),
        }
    }

    /// A view that was confirmed; one of another cluster changes nothing.
    fn accept(&self, view: &LeaderView) -> Result<(), Status> {
        let own = *self.state().cluster.get_or_insert(view.cluster);
        match view.token {
            Some(token) if own == view.cluster => self.raise(Some(own), token),
            Some(_) | None => Ok(()),
        }
    }

    /// Durable first, then visible.
    fn raise(&self, cluster: Option<ClusterId>, token: Token) -> Result<(), Status> {
        let _one_at_a_time = self.raising.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state().guard.highest() >= Some(token) {
            return Ok(());
        }
        let cluster = cluster.or(self.election.cluster);
        if let (Some(durable), Some(cluster)) = (&self.election.durable, cluster) {
            durable.raise(cluster, &self.election.name, token).map_err(|error| refusal::not_durable(&error.why))?;
        }
        let _ = self.state().guard.raise(token);
        Ok(())
    }

    /// Follows the election's stream, for ever. Without one: waits for ever.
    pub(crate) async fn follow(self: Arc<Self>) {
        let Confirm::Election(source) = &self.election.confirm else { return std::future::pending().await };
        let mut seen = 0;
        loop {
            let view = source.changed(seen).await;
            seen = view.seq.max(1); // zero would ask for any view again
            // A guard that could not be written down is not raised; the next call says so.
            if self.learn().is_ok()
                && let Some(highest) = { self.state().guard.highest() }
            {
                let lower = self.state().below(highest);
                self.take_away(lower).await;
            }
        }
    }
}

impl State {
    fn below(&self, token: Token) -> Vec<(u64, Arc<dyn End>)> {
        let lower = self.running.iter().filter(|(_, (under, _))| *under < token);
        lower.filter_map(|(number, (_, work))| Some((*number, work.upgrade()?))).collect()
    }
}

impl Seat {
    /// The answer of work that went on into a stream: enters that in the place of the work. `Err`: a higher token came between.
    pub(crate) fn goes_on_as(&self, stream: &Arc<dyn End>) -> Result<(), Status> {
        let Kind::Guarded { by, number } = &self.kind else { return self.still() };
        let mut state = by.state();
        if state.guard.highest() != Some(self.admitted.token) {
            drop(state);
            return Err(self.superseded());
        }
        state.running.insert(*number, (self.admitted.token, Arc::downgrade(stream)));
        Ok(())
    }

    /// Before each step: whether a leader's service still leads as it did. A worker's work is taken away instead.
    pub(crate) fn still(&self) -> Result<(), Status> {
        match &self.kind {
            Kind::Guarded { .. } => Ok(()),
            Kind::Leads { by } => match &**by {
                Admission::Leader(leader) if leader.tokens.token() == Some(self.admitted.token) => Ok(()),
                Admission::Leader(_) | Admission::Worker(_) => Err(self.superseded()),
            },
        }
    }

    /// It was taken away before its first step.
    pub(crate) fn stale(&self) -> Status {
        let (highest, hint) = self.known();
        refusal::stale(highest, hint.as_deref())
    }

    /// It was taken away after its first step.
    pub(crate) fn superseded(&self) -> Status {
        let (highest, hint) = self.known();
        refusal::superseded(highest, hint.as_deref())
    }

    fn known(&self) -> (Option<Token>, Option<String>) {
        match &self.kind {
            Kind::Guarded { by, .. } => (by.state().guard.highest(), by.hint()),
            Kind::Leads { by } => (by.highest(&self.admitted.election), None),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Kind::Guarded { by, number } = &self.kind {
            by.state().running.remove(number);
        }
    }
}

/// Lets others run.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
