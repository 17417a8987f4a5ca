//! One run: a safety phase with faults and every invariant checked as it goes; then everything is healed, and within a bound the
//! cluster must elect and serve. A panic anywhere is a violation, too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use palisade_storage::SimDisk;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use turmoil::Sim;

use crate::hosts::{candidate, candidate_name, node, node_name, observer, writer};
use crate::invariants::{Progress, Witness};
use crate::panics;
use crate::plan::{CANDIDATES, Fault, NODES, Plan};
use crate::trace::Trace;
use crate::world::{Traffic, simulated};

/// After healing, a grant and this many acknowledged writes must come within [`HEAL_WITHIN`].
const HEALED_WRITES: u64 = 5;
/// Longer than every TTL and back-off in the run together.
const HEAL_WITHIN: Duration = Duration::from_secs(20);

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plan that was run.
    pub plan: Plan,
    /// The first violation, if there was one.
    pub violation: Option<String>,
    /// Faults that happened, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What happened otherwise.
    pub progress: Progress,
    /// Simulated time.
    pub simulated: Duration,
    /// Everything that happened.
    pub trace: String,
    /// Of the trace.
    pub fingerprint: u64,
}

/// Runs a plan to its end or to the first violation.
pub fn run(plan: &Plan) -> Report {
    run_with(plan, |_| ())
}

/// The same; on the thread of the run, `prepare` is given the disks before anything starts.
pub fn run_with(plan: &Plan, prepare: impl FnOnce(&[SimDisk]) + Send + 'static) -> Report {
    let trace = Trace::default();
    let (ended, outcome) = mpsc::channel();
    let (panicked, panic) = mpsc::channel();
    let ran = (plan.clone(), trace.clone());
    let thread = std::thread::spawn(move || {
        let (plan, trace) = ran;
        panics::watch(plan.seed, panicked);
        let witness = Witness::new(trace.clone());
        let mut run = Run::new(&plan, trace.clone(), witness.clone());
        prepare(&run.disks);
        let violation = run.phases().err();
        let simulated = run.sim.elapsed();
        trace.line_at(simulated, "network", &run.traffic);
        // Hosts that are dropped may still say a last word: the trace ends here.
        let (text, fingerprint) = (trace.text(), trace.fingerprint());
        let faults = std::mem::take(&mut run.happened);
        let progress = witness.progress();
        drop(run);
        panics::unwatch();
        let report = Report { plan, violation, faults, progress, simulated, trace: text, fingerprint };
        // The other end waits for this.
        let _ = ended.send(report);
    });
    match panic.recv() {
        Ok(why) => Report {
            plan: plan.clone(),
            violation: Some(format!("nothing-panics: {why}")),
            faults: BTreeMap::new(),
            progress: Progress::default(),
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

/// What undoes a fault.
#[derive(Clone, Copy, Debug)]
enum Undo {
    Start(usize),
    StartCandidate(usize),
    Repair(usize),
    RepairOneWay(usize, usize),
    RepairCandidate(usize),
}

struct Run<'a> {
    sim: Sim<'a>,
    plan: Plan,
    trace: Trace,
    witness: Witness,
    disks: Vec<SimDisk>,
    traffic: Traffic,
    served: Arc<AtomicU64>,
    undos: Vec<(Duration, Undo)>,
    happened: BTreeMap<&'static str, u64>,
    rng: SmallRng,
}

impl Run<'_> {
    fn new<'a>(plan: &Plan, trace: Trace, witness: Witness) -> Run<'a> {
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(Duration::from_millis(1))
            .simulation_duration(Duration::from_secs(600))
            .min_message_latency(plan.latency.0)
            .max_message_latency(plan.latency.1)
            .tcp_capacity(65_536)
            .build();
        let mut rng = SmallRng::seed_from_u64(plan.seed ^ 0x5eed);
        let mut disks = Vec::new();
        let traffic = Traffic::default();
        for number in 1..=NODES {
            let disk = SimDisk::new();
            disks.push(disk.clone());
            let machine = node::Machine {
                node: number,
                disk,
                store_id: rng.random(),
                starts: Arc::default(),
                seed: plan.seed,
                sync_every: plan.sync_every,
                snapshot_every: plan.snapshot_every,
            };
            let (traffic, trace) = (traffic.clone(), trace.clone());
            sim.host(node_name(number), move || node::run(machine.clone(), traffic.clone(), trace.clone()));
        }
        for number in 1..=CANDIDATES {
            let (witness, starts, seed) = (witness.clone(), Arc::new(AtomicU64::new(0)), plan.seed);
            let traffic = traffic.clone();
            sim.host(candidate_name(number), move || {
                let start = starts.fetch_add(1, Ordering::Relaxed);
                // A new process is a new candidate: its old self may still wait in the queue until its session ends.
                let name = format!("{}.{start}", candidate_name(number));
                let world = simulated(seed ^ ((number as u64) << 40) ^ (start << 52), &traffic);
                candidate::run(name, world, witness.clone())
            });
        }
        let served = Arc::new(AtomicU64::new(0));
        sim.client(
            "writer",
            writer::run(simulated(plan.seed ^ 0xa11ce, &traffic), witness.clone(), Arc::clone(&served)),
        );
        sim.client("observer", observer::run(simulated(plan.seed ^ 0xb0b, &traffic), witness.clone()));
        Run {
            sim,
            plan: plan.clone(),
            trace,
            witness,
            disks,
            traffic,
            served,
            undos: Vec::new(),
            happened: BTreeMap::new(),
            rng,
        }
    }

    fn phases(&mut self) -> Result<(), String> {
        let faults = self.plan.faults.clone();
        let mut faults = faults.into_iter().peekable();
        while self.sim.elapsed() < self.plan.faults_for || !self.undos.is_empty() {
            let now = self.sim.elapsed();
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= now) {
                self.inflict(fault);
            }
            self.undo_due(now);
            self.step()?;
        }
        self.heal()
    }

    /// Everything runs and nothing is cut: the cluster must elect somebody and serve.
    fn heal(&mut self) -> Result<(), String> {
        self.trace.line_at(self.sim.elapsed(), "nemesis", "healed");
        let grants = self.witness.progress().grants;
        let served = self.served.load(Ordering::Relaxed);
        let until = self.sim.elapsed() + HEAL_WITHIN;
        while self.sim.elapsed() < until {
            self.step()?;
            if self.witness.progress().grants > grants && self.served.load(Ordering::Relaxed) >= served + HEALED_WRITES
            {
                return Ok(());
            }
        }
        Err(format!(
            "liveness: within {HEAL_WITHIN:?} after the faults had ended there were {} grants and {} writes",
            self.witness.progress().grants - grants,
            self.served.load(Ordering::Relaxed) - served
        ))
    }

    fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| format!("nothing-fails: {error}"))?;
        self.witness.tick(self.sim.elapsed());
        self.witness.violation().map_or(Ok(()), Err)
    }

    fn inflict(&mut self, fault: Fault) {
        let now = self.sim.elapsed();
        let until = now + fault.lasts();
        // A host that is down cannot fail again; the next fault finds it up.
        let undo = match fault {
            Fault::CrashNode { node, .. } => self.crash_node(node).then_some(vec![Undo::Start(node)]),
            Fault::CrashAll { .. } => {
                let crashed: Vec<_> = (1..=NODES).filter(|node| self.crash_node(*node)).map(Undo::Start).collect();
                (!crashed.is_empty()).then_some(crashed)
            }
            Fault::CutOff { node, .. } => {
                self.each_other(node, |sim, node, other| sim.partition(node, other));
                Some(vec![Undo::Repair(node)])
            }
            Fault::OneWay { from, to, .. } => {
                self.sim.partition_oneway(node_name(from), node_name(to));
                Some(vec![Undo::RepairOneWay(from, to)])
            }
            Fault::CrashCandidate { candidate, .. } => {
                self.crash_candidate(candidate).then_some(vec![Undo::StartCandidate(candidate)])
            }
            Fault::CutOffCandidate { candidate, .. } => {
                for node in 1..=NODES {
                    self.sim.partition(candidate_name(candidate), node_name(node));
                }
                Some(vec![Undo::RepairCandidate(candidate)])
            }
        };
        if let Some(undo) = undo {
            self.trace.line_at(now, "nemesis", format_args!("{fault:?}"));
            *self.happened.entry(fault.kind()).or_default() += 1;
            self.undos.extend(undo.into_iter().map(|undo| (until, undo)));
        }
    }

    fn crash_node(&mut self, node: usize) -> bool {
        let name = node_name(node);
        let up = self.sim.is_host_running(name.as_str());
        if up {
            self.traffic.while_crashing(|| self.sim.crash(name.as_str()));
            self.disks[node - 1].crash(self.rng.random());
        }
        up
    }

    fn crash_candidate(&mut self, candidate: usize) -> bool {
        let name = candidate_name(candidate);
        let up = self.sim.is_host_running(name.as_str());
        if up {
            self.traffic.while_crashing(|| self.sim.crash(name.as_str()));
            // A process that is gone believes nothing.
            self.witness.forget(&name, self.sim.elapsed());
        }
        up
    }

    fn each_other(&mut self, node: usize, act: impl Fn(&Sim<'_>, String, String)) {
        let others = (1..=NODES).filter(|other| *other != node).map(node_name);
        let others = others.chain((1..=CANDIDATES).map(candidate_name)).chain(["writer".into(), "observer".into()]);
        for other in others {
            act(&self.sim, node_name(node), other);
        }
    }

    fn undo_due(&mut self, now: Duration) {
        let (due, rest) = std::mem::take(&mut self.undos).into_iter().partition::<Vec<_>, _>(|(at, _)| *at <= now);
        self.undos = rest;
        for (_, undo) in due {
            self.trace.line_at(now, "nemesis", format_args!("{undo:?}"));
            match undo {
                Undo::Start(node) => self.sim.bounce(node_name(node)),
                Undo::StartCandidate(candidate) => self.sim.bounce(candidate_name(candidate)),
                Undo::Repair(node) => self.each_other(node, |sim, node, other| sim.repair(node, other)),
                Undo::RepairOneWay(from, to) => self.sim.repair_oneway(node_name(from), node_name(to)),
                Undo::RepairCandidate(candidate) => {
                    for node in 1..=NODES {
                        self.sim.repair(candidate_name(candidate), node_name(node));
                    }
                }
            }
        }
    }
}
