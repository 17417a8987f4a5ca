//! What must hold, one file each. The hosts report [`Fact`]s as they happen; every invariant sees every fact and may object.

mod acknowledged;
mod beliefs;
mod fenced;
mod tokens;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use palisade_fence::Token;

use crate::trace::Trace;

/// Something that a host saw.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A candidate was told that it leads.
    Granted {
        /// Who.
        candidate: String,
        /// Under which token.
        token: Token,
        /// Of the command that granted it.
        seq: u64,
    },
    /// An observer was told who leads.
    Elected {
        /// Who.
        candidate: String,
        /// Under which token.
        token: Token,
        /// Of the command that granted it.
        seq: u64,
    },
    /// A candidate believes that it leads, at least until the given time unless it says otherwise.
    Believes {
        /// Who.
        candidate: String,
        /// Under which token.
        token: Token,
        /// Its deadline on the simulation's clock.
        until: Duration,
    },
    /// A candidate no longer believes that it leads.
    Disbelieves {
        /// Who.
        candidate: String,
        /// Under which token it led.
        token: Token,
    },
    /// A write under a token was acknowledged.
    WroteFenced {
        /// The token.
        token: Token,
        /// Of the command that wrote.
        seq: u64,
    },
    /// A write under a token was refused as stale.
    RefusedFenced {
        /// The token of the write.
        token: Token,
        /// The election's current one.
        current: Option<Token>,
    },
    /// A write of a rising number was acknowledged.
    Acknowledged {
        /// The key.
        key: String,
        /// The number.
        number: u64,
    },
    /// A write of a rising number began; its outcome may stay unknown.
    Attempted {
        /// The key.
        key: String,
        /// The number.
        number: u64,
    },
    /// A linearizable read returned a number (0: no such key).
    Read {
        /// The key.
        key: String,
        /// The number.
        number: u64,
        /// The highest number that had been acknowledged when the read began.
        acknowledged_before: u64,
    },
}

/// Objects to a fact that must not be. Invariants never forget a violation: the run ends with the first.
pub trait Invariant: Send {
    /// The name that is printed.
    fn name(&self) -> &'static str;
    /// Sees a fact at a simulated time.
    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String>;
    /// Is asked after each step of the simulation, too.
    fn tick(&mut self, _at: Duration) -> Result<(), String> {
        Ok(())
    }
    /// The process on a host is gone.
    fn forget(&mut self, _host: &str) {}
}

/// All invariants, and the first violation.
#[derive(Clone)]
pub struct Witness {
    inner: Arc<Mutex<Inner>>,
    trace: Trace,
}

struct Inner {
    invariants: Vec<Box<dyn Invariant>>,
    violation: Option<String>,
    progress: Progress,
}

/// What happened: a run in which nothing did proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Grants that candidates heard of.
    pub grants: u64,
    /// Plain writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes under a token that were acknowledged.
    pub fenced: u64,
    /// Writes under a token that were refused as stale.
    pub refused: u64,
}

impl Witness {
    /// With all invariants.
    pub fn new(trace: Trace) -> Witness {
        let invariants: Vec<Box<dyn Invariant>> = vec![
            Box::new(tokens::TokensRise::default()),
            Box::new(beliefs::BeliefsDoNotOverlap::default()),
            Box::new(acknowledged::AcknowledgedIsVisible::default()),
            Box::new(fenced::StaleWritesAreRefused::default()),
        ];
        Witness {
            inner: Arc::new(Mutex::new(Inner { invariants, violation: None, progress: Progress::default() })),
            trace,
        }
    }

    /// A host reports what it saw.
    pub fn saw(&self, who: &str, fact: Fact) {
        self.trace.line(who, format_args!("{fact:?}"));
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match fact {
            Fact::Granted { .. } => inner.progress.grants += 1,
            Fact::Acknowledged { .. } => inner.progress.acknowledged += 1,
            Fact::WroteFenced { .. } => inner.progress.fenced += 1,
            Fact::RefusedFenced { .. } => inner.progress.refused += 1,
            _ => {}
        }
        let objections =
            inner.invariants.iter_mut().find_map(|i| i.on(&fact, at).err().map(|why| format!("{}: {why}", i.name())));
        if inner.violation.is_none() {
            inner.violation = objections;
        }
    }

    /// The process on `host` is gone: whatever it believed, it no longer acts on it.
    pub fn forget(&self, host: &str, at: Duration) {
        self.trace.line_at(at, host, "is gone");
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.invariants.iter_mut().for_each(|invariant| invariant.forget(host));
    }

    /// After each step of the simulation.
    pub fn tick(&self, at: Duration) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let objections =
            inner.invariants.iter_mut().find_map(|i| i.tick(at).err().map(|why| format!("{}: {why}", i.name())));
        if inner.violation.is_none() {
            inner.violation = objections;
        }
    }

    /// The first violation.
    pub fn violation(&self) -> Option<String> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).violation.clone()
    }

    /// What happened so far.
    pub fn progress(&self) -> Progress {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).progress
    }
}
