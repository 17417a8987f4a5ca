//! One run: a phase with faults and every invariant checked as it goes; then everything is healed, and within a bound the
//! cluster must serve again and come to rest. A panic anywhere is a violation, too.

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::watch;
use turmoil::Sim;

use crate::hosts::archivist::Vault;
use crate::hosts::{Stage, assemble};
use crate::nemesis::Nemesis;
use crate::panics;
use crate::phase::Phase;
use crate::plan::{Plan, Planned};
use crate::summary;
use crate::trace::Trace;
use crate::witness::{Counts, Witness};
use crate::world::{SharedFiles, Traffic};

/// What must come about after healing must do so within this time: longer than every TTL, back-off and outage together.
const HEAL_WITHIN: Duration = Duration::from_secs(20);

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plan that was run.
    pub plan: Plan,
    /// The first violation, if there was one: the invariant's name, a colon, and what it objects to.
    pub violation: Option<String>,
    /// Every invariant that objected. After the first violation a run goes on for a moment only if it was asked to.
    pub objected: BTreeSet<&'static str>,
    /// Faults that happened, by kind.
    pub faults: Counts,
    /// What happened otherwise.
    pub counts: Counts,
    /// Simulated time.
    pub simulated: Duration,
    /// Everything that happened.
    pub trace: String,
    /// Of the trace.
    pub fingerprint: u64,
}

impl Report {
    /// The name of the invariant that was violated.
    pub fn violated(&self) -> Option<&str> {
        self.violation.as_deref().map(|why| why.split(':').next().unwrap_or(why))
    }
}

/// Runs a plan to its end or to the first violation.
pub fn run(plan: &Plan) -> Report {
    run_with(plan, Linger::default(), || ())
}

/// How long a run goes on after the first violation, to see who else objects.
#[derive(Clone, Copy, Default, Debug)]
pub struct Linger {
    /// So much simulated time in any case.
    pub least: Duration,
    /// Until this invariant has objected, too.
    pub until: Option<&'static str>,
    /// Not longer than that.
    pub most: Duration,
}

/// The same; `prepare` is called on the thread of the run before anything starts, and after the first violation the run lingers.
pub fn run_with(plan: &Plan, linger: Linger, prepare: impl FnOnce() + Send + 'static) -> Report {
    let trace = Trace::default();
    let (ended, outcome) = mpsc::channel();
    let (panicked, panic) = mpsc::channel();
    let witness = Witness::new(plan, trace.clone());
    let ran = (plan.clone(), trace.clone(), witness.clone());
    let thread = std::thread::spawn(move || {
        let (plan, trace, witness) = ran;
        panics::watch(panicked);
        prepare();
        let mut run = Run::new(&plan, witness.clone(), trace.clone());
        let violation = run.phases().err().or_else(|| summary::idle(&plan, &witness.counts()));
        if violation.is_some() {
            run.linger(linger);
        }
        let simulated = run.sim.elapsed();
        trace.line_at(simulated, "network", &run.stage.traffic);
        // Processes that are dropped may still say a last word: the trace ends here.
        let (text, fingerprint) = (trace.text(), trace.fingerprint());
        let (faults, counts, objected) = (run.nemesis.happened().clone(), witness.counts(), witness.objected());
        drop(run);
        panics::unwatch();
        // The other end waits for this.
        let _ = ended.send(Report { plan, violation, objected, faults, counts, simulated, trace: text, fingerprint });
    });
    match panic.recv() {
        Ok(why) => Report {
            plan: plan.clone(),
            // What was objected to before comes first.
            violation: witness.before_panic().or_else(|| Some(format!("nothing-panics: {why}"))),
            objected: ["nothing-panics"].into(),
            faults: Counts::new(),
            counts: Counts::new(),
            simulated: Duration::ZERO,
            trace: trace.text(),
            fingerprint: trace.fingerprint(),
        },
        // The watch is over and its sender dropped: the run came to its end.
        Err(mpsc::RecvError) => {
            let report = outcome.recv().expect("a run whose watch is over sends its report");
            thread.join().expect("nothing comes after the report");
            report
        }
    }
}

struct Run<'a> {
    sim: Sim<'a>,
    stage: Stage,
    nemesis: Nemesis,
}

impl Run<'_> {
    fn new<'a>(plan: &Plan, witness: Witness, trace: Trace) -> Run<'a> {
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(Duration::from_millis(1))
            .simulation_duration(plan.faults_for + 4 * HEAL_WITHIN)
            .min_message_latency(plan.latency.0)
            .max_message_latency(plan.latency.1)
            .tcp_capacity(65_536)
            .build();
        let stage = Stage {
            plan: Arc::new(plan.clone()),
            witness,
            trace,
            traffic: Traffic::default(),
            files: SharedFiles::default(),
            phase: watch::Sender::new(Phase::Faults),
            vault: Vault::default(),
            generation: Arc::default(),
        };
        let cast = assemble(&mut sim, &stage);
        let nemesis = Nemesis::new(&stage, cast);
        Run { sim, stage, nemesis }
    }

    fn phases(&mut self) -> Result<(), String> {
        let plan = Arc::clone(&self.stage.plan);
        self.faults(&plan.faults)?;
        self.nemesis.heal(&mut self.sim);
        self.settle(Phase::Healed)?;
        self.settle(Phase::Rest)
    }

    fn faults(&mut self, faults: &[Planned]) -> Result<(), String> {
        let mut faults = faults.iter().peekable();
        while self.sim.elapsed() < self.stage.plan.faults_for || !self.nemesis.is_idle() {
            while let Some(planned) = faults.next_if(|planned| planned.at <= self.sim.elapsed()) {
                self.nemesis.begin(&mut self.sim, planned);
            }
            self.nemesis.end_due(&mut self.sim);
            self.nemesis.keep_up(&mut self.sim);
            self.step()?;
        }
        Ok(())
    }

    /// Nothing is broken: what this phase asks for must come about.
    fn settle(&mut self, phase: Phase) -> Result<(), String> {
        self.stage.phase.send_replace(phase);
        self.stage.witness.phase(phase, self.sim.elapsed());
        let until = self.sim.elapsed() + HEAL_WITHIN;
        while let Some(missing) = self.stage.witness.missing() {
            if self.sim.elapsed() >= until {
                return Err(format!("{missing}, {HEAL_WITHIN:?} after nothing was broken any more"));
            }
            self.nemesis.keep_up(&mut self.sim);
            self.step()?;
        }
        Ok(())
    }

    /// Goes on after a violation, to see who else objects.
    fn linger(&mut self, linger: Linger) {
        let began = self.sim.elapsed();
        let goes_on = |lingered: Duration, witness: &Witness| {
            let awaited = linger.until.is_some_and(|by| !witness.objected().contains(by));
            lingered < linger.least || (awaited && lingered < linger.most)
        };
        while goes_on(self.sim.elapsed() - began, &self.stage.witness) && self.sim.step().is_ok() {
            self.stage.witness.tick(self.sim.elapsed());
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| format!("nothing-fails: {error}"))?;
        self.stage.witness.tick(self.sim.elapsed());
        self.stage.witness.violation().map_or(Ok(()), Err)
    }
}
