//! What every task of a run shares: who acts under which number, which values were written, what was granted, when to stop; and the
//! one way to make an operation: written down before it is sent, and after it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jepsen_lite::history::{Record, Recorder, Type, f};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{broadcast, mpsc, watch};

use crate::api::v1::Header;
use crate::api::{Outcome, kind};
use crate::session::Terms;
use crate::stage::Stage;

/// The election that candidates of the harness contest.
pub(crate) const ELECTION: &str = "jepsen";
/// That of the JobManagers.
pub(crate) const JOBMANAGERS: &str = "jobmanager";
/// Who plays faults; those that a scenario plays beside are played by the other one.
pub(crate) const NEMESIS: &str = "nemesis";
pub(crate) const BESIDE: &str = "nemesis-beside";
/// Grants that a slow listener may be behind.
const GRANTS: usize = 256;

/// Somebody was told that it leads.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) token: u64,
}

/// What a scenario says about the sessions of its candidates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sessions {
    pub(crate) terms: Terms,
    /// Candidates that are processes of the tested system.
    pub(crate) candidates: usize,
}

/// Shared by every task of a run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) stage: Arc<Stage>,
    pub(crate) recorder: Recorder,
    pub(crate) sessions: Sessions,
    pub(crate) seed: u64,
    /// The election whose holder the nemeses hit.
    pub(crate) election: &'static str,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) grants: broadcast::Sender<Granted>,
    /// The name under which faults are written down: another one for those that are played beside.
    pub(crate) nemesis: &'static str,
    /// One for each candidate process that was ended and is to be followed by another.
    pub(crate) vacancies: mpsc::Sender<()>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    processes: AtomicU64,
    values: AtomicU64,
    instances: AtomicU64,
    /// The highest token under which a fenced write was accepted.
    accepted: AtomicU64,
    /// The highest token that its own holder was told of.
    told: AtomicU64,
}

impl Run {
    pub(crate) fn new(
        stage: Arc<Stage>,
        sessions: Sessions,
        seed: u64,
        election: &'static str,
        stop: watch::Receiver<bool>,
    ) -> (Run, mpsc::Receiver<()>) {
        let (vacancies, vacant) = mpsc::channel(64);
        let recorder = stage.recorder.clone();
        let grants = broadcast::channel(GRANTS).0;
        let counters = Arc::default();
        (Run { stage, recorder, sessions, seed, election, stop, grants, nemesis: NEMESIS, vacancies, counters }, vacant)
    }

    /// The same run, for somebody else who plays faults.
    pub(crate) fn as_nemesis(&self, nemesis: &'static str) -> Run {
        Run { nemesis, ..self.clone() }
    }

    pub(crate) fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// A number that nobody had before.
    pub(crate) fn process(&self) -> String {
        self.counters.processes.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// A value that was never written before.
    pub(crate) fn value(&self) -> u64 {
        self.counters.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of a fault.
    pub(crate) fn instance(&self) -> u64 {
        self.counters.instances.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn accepted(&self, token: u64) {
        self.counters.accepted.fetch_max(token, Ordering::Relaxed);
    }

    /// A candidate was told that it leads.
    pub(crate) fn granted(&self, token: u64) {
        self.counters.told.fetch_max(token, Ordering::Relaxed);
        // Nobody may be listening.
        let _ = self.grants.send(Granted { token });
    }

    /// The highest token so far whose holder knows that it leads.
    pub(crate) fn highest_told(&self) -> u64 {
        self.counters.told.load(Ordering::Relaxed)
    }

    /// The highest token under which a fenced write was accepted so far.
    pub(crate) fn highest_accepted(&self) -> u64 {
        self.counters.accepted.load(Ordering::Relaxed)
    }

    /// Randomness of one task: from the run's seed, and different for each name.
    pub(crate) fn rng(&self, task: &str) -> SmallRng {
        let salt = task
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        SmallRng::seed_from_u64(self.seed ^ salt)
    }

    /// Sleeps so long, or until the run stops; whether it goes on.
    pub(crate) async fn rest(&self, span: Duration) -> bool {
        let mut stop = self.stop.clone();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => false,
            () = tokio::time::sleep(span) => true,
        }
    }

    /// Sleeps between `least` and `most` milliseconds.
    pub(crate) async fn pause(&self, rng: &mut SmallRng, least: u64, most: u64) -> bool {
        self.rest(Duration::from_millis(rng.random_range(least..most))).await
    }

    pub(crate) fn note(&self, what: impl Into<serde_json::Value>) {
        let mut record = Record::seen("harness", f::NOTE);
        record.value = what.into();
        self.recorder.record(record);
    }

    /// The harness could not do what it wanted.
    pub(crate) fn trouble(&self, what: impl Into<String>) {
        let mut record = Record::seen("harness", f::TROUBLE);
        record.error = Some(what.into());
        self.recorder.record(record);
    }

    pub(crate) fn phase(&self, phase: &str) {
        let mut record = Record::seen("harness", f::PHASE);
        record.value = phase.into();
        self.recorder.record(record);
    }
}

/// Comes when the run stops.
pub(crate) async fn over(stop: &mut watch::Receiver<bool>) {
    // An error says that the run is gone, which is as good.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A client: one operation at a time, and another number after an unknown outcome.
#[derive(Debug)]
pub(crate) struct Actor {
    run: Run,
    process: String,
}

impl Actor {
    pub(crate) fn new(run: &Run) -> Actor {
        Actor { run: run.clone(), process: run.process() }
    }

    /// A record of this client, about to act on `node`.
    pub(crate) fn record(&self, f: &str, node: &str) -> Record {
        Record { node: Some(node.to_owned()), ..Record::new(&self.process, Type::Invoke, f) }
    }

    /// Makes an operation that may have an effect. Gives what was answered if it succeeded; `fill` writes it down.
    pub(crate) async fn act<T>(
        &mut self,
        invoke: Record,
        call: impl Future<Output = Outcome<T>>,
        fill: impl FnOnce(&T, &mut Record),
    ) -> Outcome<T> {
        self.run.recorder.record(invoke.clone());
        let outcome = call.await;
        let mut end = invoke.ended(Type::Ok);
        match &outcome {
            Outcome::Ok(value) => fill(value, &mut end),
            Outcome::Fail(detail) => {
                end = refused(&invoke, &kind(detail), detail.header);
            }
            Outcome::Info(why) => {
                (end.kind, end.error) = (Type::Info, Some(why.clone()));
                self.process = self.run.process();
            }
        }
        self.run.recorder.record(end);
        outcome
    }

    /// Makes an operation that has no effect: whatever became of it, it failed if it was not answered.
    pub(crate) async fn ask<T>(
        &mut self,
        invoke: Record,
        call: impl Future<Output = Outcome<T>>,
        fill: impl FnOnce(&T, &mut Record),
    ) -> Option<T> {
        self.run.recorder.record(invoke.clone());
        let outcome = call.await;
        let mut end = invoke.ended(Type::Ok);
        match &outcome {
            Outcome::Ok(value) => fill(value, &mut end),
            Outcome::Fail(detail) => end = refused(&invoke, &kind(detail), None),
            Outcome::Info(why) => end = refused(&invoke, why, None),
        }
        self.run.recorder.record(end);
        outcome.ok()
    }
}

fn refused(invoke: &Record, why: &str, header: Option<Header>) -> Record {
    Record { error: Some(why.to_owned()), seq: header.map(|header| header.seq), ..invoke.ended(Type::Fail) }
}

/// Writes the two numbers of a reply down.
pub(crate) fn stamp(record: &mut Record, header: &Header) {
    record.seq = Some(header.seq);
    record.revision = Some(header.revision);
}
