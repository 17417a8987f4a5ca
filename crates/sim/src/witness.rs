//! Who hears of everything that processes see: the trace, the counts, and the invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::facts::{Fact, Restoration};
use crate::invariants::{self, Invariant};
use crate::phase::Phase;
use crate::plan::{Fault, Plan, Who};
use crate::trace::Trace;

/// All invariants of a run, and the first violation. Clones are the same witness.
#[derive(Clone)]
pub(crate) struct Witness {
    inner: Arc<Mutex<Inner>>,
    trace: Trace,
}

struct Inner {
    invariants: Vec<Box<dyn Invariant>>,
    violation: Option<String>,
    /// The names of all that objected, after the first violation, too.
    objected: BTreeSet<&'static str>,
    counts: Counts,
    /// The last command that any node has applied.
    applied: u64,
}

/// How often what happened: a run in which nothing did proves nothing.
pub type Counts = BTreeMap<&'static str, u64>;

impl Witness {
    /// With all invariants.
    pub(crate) fn new(plan: &Plan, trace: Trace) -> Witness {
        let inner = Inner {
            invariants: invariants::all(plan),
            violation: None,
            objected: BTreeSet::new(),
            counts: Counts::new(),
            applied: 0,
        };
        Witness { inner: Arc::new(Mutex::new(inner)), trace }
    }

    /// A process reports what it saw.
    pub(crate) fn saw(&self, who: Who, fact: Fact) {
        self.saw_at(turmoil::sim_elapsed().unwrap_or_default(), who, fact);
    }

    fn saw_at(&self, at: Duration, who: Who, fact: Fact) {
        let mut inner = self.lock();
        if inner.is_news(&fact) {
            self.trace.line_at(at, &who.to_string(), format_args!("{fact:?}"));
            if let Some(count) = fact.counts_as() {
                *inner.counts.entry(count).or_default() += 1;
            }
        }
        inner.each(|invariant| invariant.on(&fact, at));
    }

    /// Counts something that no invariant looks at.
    pub(crate) fn count(&self, what: &'static str) {
        *self.lock().counts.entry(what).or_default() += 1;
    }

    /// A process is gone: whatever it believed, it no longer acts on it.
    pub(crate) fn gone(&self, who: Who, at: Duration) {
        self.trace.line_at(at, &who.to_string(), "is gone");
        self.lock().invariants.iter_mut().for_each(|invariant| invariant.gone(who));
    }

    /// A fault begins or ends.
    pub(crate) fn fault(&self, fault: &Fault, begins: bool, at: Duration) {
        let what = if begins { "begins" } else { "ends" };
        self.trace.line_at(at, "nemesis", format_args!("{what}: {fault}"));
        self.lock().invariants.iter_mut().for_each(|invariant| invariant.fault(fault, begins, at));
    }

    /// A phase begins.
    pub(crate) fn phase(&self, phase: Phase, at: Duration) {
        self.trace.line_at(at, "nemesis", format_args!("{phase:?}"));
        self.lock().invariants.iter_mut().for_each(|invariant| invariant.phase(phase, at));
    }

    /// The cluster begins anew with a backup.
    pub(crate) fn restored(&self, restoration: &Restoration, at: Duration) {
        self.trace.line_at(at, "nemesis", format_args!("{restoration:?}"));
        let mut inner = self.lock();
        // Restored twice, a backup gives the same numbers twice.
        inner.applied = restoration.begins.seq;
        inner.invariants.iter_mut().for_each(|invariant| invariant.restored(restoration));
    }

    /// After each step of the simulation.
    pub(crate) fn tick(&self, at: Duration) {
        self.lock().each(|invariant| invariant.tick(at));
    }

    /// What must still come about in this phase; `None`: everything has.
    pub(crate) fn missing(&self) -> Option<String> {
        self.lock().invariants.iter().find_map(|it| it.missing().map(|what| format!("{}: {what}", it.name())))
    }

    /// The first violation.
    pub(crate) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    /// The first violation, if the thread that panicked does not hold the witness for ever.
    pub(crate) fn before_panic(&self) -> Option<String> {
        self.inner.try_lock().ok().and_then(|inner| inner.violation.clone())
    }

    /// Which invariants have objected so far.
    pub(crate) fn objected(&self) -> BTreeSet<&'static str> {
        self.lock().objected.clone()
    }

    /// What happened so far.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Every node applies every command; the first one to do so makes the news.
    fn is_news(&mut self, fact: &Fact) -> bool {
        match fact {
            Fact::Applied(applied) => {
                let news = applied.seq > self.applied;
                self.applied = self.applied.max(applied.seq);
                news
            }
            _ => true,
        }
    }

    fn each(&mut self, mut ask: impl FnMut(&mut dyn Invariant) -> Result<(), String>) {
        for invariant in &mut self.invariants {
            if let Err(why) = ask(invariant.as_mut()) {
                self.objected.insert(invariant.name());
                self.violation.get_or_insert_with(|| format!("{}: {why}", invariant.name()));
            }
        }
    }
}
