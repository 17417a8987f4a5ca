//! What runs on the simulated hosts, one file for each role. Everything real is real: nodes, clients, endpoints are the crates
//! that ship; what is simulated lies below the seam.

pub mod administrator;
pub mod archivist;
pub mod caller;
pub mod candidate;
pub mod duplicator;
pub mod jobmanager;
pub mod ledger;
pub mod node;
pub mod observer;
pub mod operator;
pub mod repeater;
pub mod submitter;
pub mod taskexecutor;
pub mod transactor;
pub mod watcher;
mod wire;
pub mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use palisade_client::{Client, ClientConfig, Error, Session, SessionOptions};
use palisade_wire::coord::v1::Header;
use palisade_world::World;
use tokio::sync::watch;
use turmoil::Sim;

use crate::facts::Fact;
use crate::ledger::Tape;
use crate::phase::Phase;
use crate::plan::{Plan, Role, Who};
use crate::trace::Trace;
use crate::witness::Witness;
use crate::world::clock::Rate;
use crate::world::{Gate, SharedFiles, SimClock, Traffic, simulated};

/// The port that every process listens on.
pub const PORT: u16 = 7070;

/// The election that JobManagers contest.
pub const ELECTION_OF_JOBS: &str = "jobmanager";
/// Between two attempts to start a process.
const BETWEEN_STARTS: Duration = Duration::from_millis(100);
/// The folder that JobManagers and TaskExecutors share.
pub const STORAGE: &str = "/storage";

/// `HOST:PORT` of a process.
pub fn address(who: Who) -> String {
    format!("{who}:{PORT}")
}

/// What all processes of a run share.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) plan: Arc<Plan>,
    pub(crate) trace: Trace,
    pub(crate) witness: Witness,
    pub(crate) traffic: Traffic,
    pub(crate) files: SharedFiles,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) vault: archivist::Vault,
    /// Of the cluster that is meant, after all restores.
    pub(crate) generation: Arc<AtomicU32>,
}

/// What of a process's machine outlives the process.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) gate: Gate,
    pub(crate) clock: SimClock,
    starts: Arc<AtomicU64>,
}

/// One process, from its start to its end.
#[derive(Clone)]
pub(crate) struct Process {
    /// Which one.
    pub(crate) who: Who,
    /// How often it was started before.
    pub(crate) start: u64,
    /// Its clock, randomness and network.
    pub(crate) world: World,
    /// What it saw is told here.
    pub(crate) witness: Witness,
    /// What was decided before the run.
    pub(crate) plan: Arc<Plan>,
    /// Whether there are faults.
    pub(crate) phase: watch::Receiver<Phase>,
    trace: Trace,
    clock: SimClock,
    files: SharedFiles,
    generation: Arc<AtomicU32>,
}

impl Process {
    /// A name that no other process has, before or after: a restarted process is somebody else.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.who, self.start)
    }

    /// Whether an answer comes from a node of before a restore: whoever speaks the wire without a client's care must look for himself.
    pub(crate) fn is_outlived(&self, header: Option<&Header>) -> bool {
        let generation = self.generation.load(Ordering::Relaxed);
        let outlived = header.is_some_and(|header| header.cluster_id != 0 && header.generation < generation);
        if outlived {
            self.witness.count("answers of before a restore");
        }
        outlived
    }

    /// Writes a line into the trace.
    pub(crate) fn trace(&self, what: impl std::fmt::Display) {
        self.trace.line(&self.who.to_string(), what);
    }

    /// True once in so many times, at random.
    pub(crate) fn one_in(&self, many: u64) -> bool {
        self.world.random_u64().is_multiple_of(many)
    }

    /// The simulated time at which this process's clock will show `reading`.
    pub(crate) fn simulated(&self, reading: Duration) -> Duration {
        self.clock.simulated(reading)
    }

    /// Changes when what [`Process::simulated`] said is true no longer.
    pub(crate) fn clock_rates(&self) -> watch::Receiver<Rate> {
        self.clock.rates()
    }

    /// Starts what needs room for its files, again and again until it has some, as whoever looks after it does.
    pub(crate) async fn starts<T, E, Fut>(&self, mut start: impl FnMut() -> Fut) -> Result<T, E>
    where
        E: std::fmt::Display,
        Fut: Future<Output = Result<T, E>>,
    {
        loop {
            match start().await {
                Err(error) if self.files.is_full(self.who) => {
                    self.trace(format_args!("not started: {error}"));
                    self.world.sleep(BETWEEN_STARTS).await;
                }
                started => return started,
            }
        }
    }

    /// Opens a session, which it has to leave by [`Process::leaves`].
    pub(crate) async fn opens(&self, client: &Client, options: SessionOptions) -> Result<Session, Error> {
        let session = client.open_session(options).await?;
        self.witness.saw(self.who, Fact::SessionOpened { session: session.id(), by: self.who });
        if self.plan.behind.contains_key(&self.who) {
            self.witness.count("sessions behind one node");
        }
        Ok(session)
    }

    /// Nobody keeps this session alive any more, as far as this process cares.
    pub(crate) fn leaves(&self, session: &Session) {
        self.witness.saw(self.who, Fact::SessionLeft { session: session.id() });
    }

    /// Closes a session, and tells if that was heard.
    pub(crate) async fn closes(&self, session: &Session) -> Result<(), Error> {
        self.leaves(session);
        session.close().await?;
        self.witness.saw(self.who, Fact::SessionClosed { session: session.id() });
        Ok(())
    }

    /// The addresses of the simulated cluster as it began, as far as it reaches them.
    pub(crate) fn nodes(&self) -> Vec<String> {
        match self.plan.behind.get(&self.who) {
            Some(node) => vec![address(Who::node(*node))],
            None => self.plan.founders().map(address).collect(),
        }
    }

    /// A client of the simulated cluster.
    pub(crate) fn client(&self) -> Client {
        let config = ClientConfig { endpoints: self.nodes(), request_timeout: Duration::from_secs(2) };
        Client::new(config, self.world.clone()).expect("the simulated addresses are well formed")
    }
}

/// Everybody who takes part, registered with the simulation.
pub(crate) struct Cast {
    pub(crate) machines: BTreeMap<Who, Machine>,
    pub(crate) nodes: BTreeMap<usize, node::Hardware>,
}

/// Registers everybody. Nothing runs before the first step of the simulation.
pub(crate) fn assemble(sim: &mut Sim<'_>, stage: &Stage) -> Cast {
    let mut cast = Cast { machines: BTreeMap::new(), nodes: BTreeMap::new() };
    let tape = Tape::default();
    for who in stage.plan.everybody() {
        let gate = Gate::default();
        let machine = Machine { clock: SimClock::new(gate.clone()), gate, starts: Arc::default() };
        match who.role {
            Role::Node => {
                let hardware = node::Hardware::new(&stage.plan, who.number);
                cast.nodes.insert(who.number, hardware.clone());
                install(sim, stage, &machine, who, move |process| node::run(process, hardware.clone()));
            }
            Role::Candidate => {
                let tape = tape.clone();
                install(sim, stage, &machine, who, move |process| candidate::run(process, tape.clone()));
            }
            Role::Caller => install(sim, stage, &machine, who, caller::run),
            Role::Writer => install(sim, stage, &machine, who, writer::run),
            Role::Duplicator => install(sim, stage, &machine, who, duplicator::run),
            Role::Transactor => install(sim, stage, &machine, who, transactor::run),
            Role::Observer => install(sim, stage, &machine, who, observer::run),
            Role::Watcher => install(sim, stage, &machine, who, watcher::run),
            Role::Administrator => install(sim, stage, &machine, who, administrator::run),
            Role::Archivist => {
                let vault = stage.vault.clone();
                install(sim, stage, &machine, who, move |process| archivist::run(process, vault.clone()));
            }
            Role::Ledger => {
                let book = ledger::Book::default();
                install(sim, stage, &machine, who, move |process| ledger::run(process, book.clone()));
            }
            Role::Repeater => {
                let tape = tape.clone();
                install(sim, stage, &machine, who, move |process| repeater::run(process, tape.clone()));
            }
            Role::JobManager => install(sim, stage, &machine, who, jobmanager::run),
            Role::TaskExecutor => install(sim, stage, &machine, who, taskexecutor::run),
            Role::Submitter => install(sim, stage, &machine, who, submitter::run),
            Role::Operator => {
                let nodes = cast.nodes.clone();
                install(sim, stage, &machine, who, move |process| operator::run(process, nodes.clone()));
            }
        }
        cast.machines.insert(who, machine);
    }
    cast
}

/// `software` is called at each start of the process; it runs until the process is ended from outside.
fn install<F, Fut>(sim: &mut Sim<'_>, stage: &Stage, machine: &Machine, who: Who, software: F)
where
    F: Fn(Process) -> Fut + 'static,
    Fut: Future<Output = turmoil::Result> + 'static,
{
    let (stage, machine) = (stage.clone(), machine.clone());
    sim.host(who.to_string(), move || {
        let start = machine.starts.fetch_add(1, Ordering::Relaxed);
        software(Process {
            who,
            start,
            world: simulated(
                seed(&stage.plan, who, start),
                &machine.clock,
                &machine.gate,
                (&stage.traffic, stage.plan.behind.get(&who).copied()),
                stage.files.of(who),
            ),
            witness: stage.witness.clone(),
            plan: Arc::clone(&stage.plan),
            phase: stage.phase.subscribe(),
            trace: stage.trace.clone(),
            clock: machine.clock.clone(),
            files: stage.files.clone(),
            generation: Arc::clone(&stage.generation),
        })
    });
}

/// Different for each process and each start of it.
fn seed(plan: &Plan, who: Who, start: u64) -> u64 {
    plan.seed ^ ((who.role as u64 + 1) << 56) ^ ((who.number as u64) << 40) ^ (start << 24)
}
